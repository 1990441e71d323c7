package test

// No secret shows: not in logs, environments, command lines or files of the program.

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// secrets are byte strings that must not show anywhere, by what they are.
func (w *world) secrets() map[string][]byte {
	found := map[string][]byte{"PIN of hsm-a": []byte(w.A.PIN), "PIN of hsm-b": []byte(w.B.PIN), "a wrong PIN": []byte("not-the-pin")}
	for name, credential := range map[string]string{"main": w.Main.SecretAccessKey, "second": w.Second.SecretAccessKey, "other": w.Other.SecretAccessKey, "regional": w.Regional.SecretAccessKey} {
		found["secret access key "+name] = []byte(credential)
	}
	for id, value := range w.Values {
		found["value of "+id.Label] = value
	}
	return found
}

// checkNoSecrets searches text for the secrets as they are, in Base64 and in hexadecimal.
func checkNoSecrets(t testing.TB, w *world, where string, text []byte) {
	t.Helper()
	searchFor(t, w.secrets(), where, text)
}

func searchFor(t testing.TB, secrets map[string][]byte, where string, text []byte) {
	t.Helper()
	for what, secret := range secrets {
		for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), []byte(hex.EncodeToString(secret))} {
			if bytes.Contains(text, form) {
				t.Errorf("%s: %s shows", where, what)
			}
		}
	}
}

func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil) // the log level is debug
	c := p.client(t, http1)
	plaintext := []byte("a plaintext that is like no other: 7d0c1e55")
	aad := []byte("an AAD that is like no other: 91f0aa3b")
	s := c.encrypt(t, "key-1", withCDIV(encryptBody(plaintext, aad)))
	c.decrypt(t, "key-1", s, aad)
	bad := *s
	bad.AuthenticationTag = make([]byte, 16)
	c.post(t, decryptURI("key-1"), decryptBody(&bad, aad)).wantError(t, 400, "InvalidCiphertextException")
	c.post(t, encryptURI("key-1"), with(encryptBody(plaintext, aad), "encryptionAlgorithm", 5)).wantError(t, 400, "ValidationException")
	c.post(t, encryptURI("key-1"), string(encode(encryptBody(plaintext, aad)))+"x").wantError(t, 400, "ValidationException")
	swapped := c.call(healthURI, encode(healthBody())) // a client that takes the one for the other
	who := p.world.Main
	who.AccessKeyID = who.SecretAccessKey
	swapped.who = &who
	c.mustDo(t, swapped).wantError(t, 401, "AuthenticationFailedException")
	p.plainHTTP(t) // a handshake that fails is told at the level debug
	p.world.B.away(t)
	p.waitStatus(t, "hsm-b", "UNAVAILABLE")
	p.world.B.back(t)
	p.waitActive(t, "hsm-b")

	secrets := p.world.secrets()
	secrets["a plaintext"] = plaintext
	pids := map[string]int{"proxy": p.PID}
	for _, worker := range p.workers() {
		pids["process of "+worker.HSM] = worker.PID
	}
	if len(pids) != 3 {
		t.Fatalf("processes: %v", pids)
	}
	for name, pid := range pids {
		text, _ := readEnvironment(t, "the "+name, pid)
		searchFor(t, secrets, "environment of the "+name, text)
		text, err := os.ReadFile(procPath(pid, "cmdline"))
		if err != nil {
			t.Errorf("command line of the %s: %v", name, err)
		}
		searchFor(t, secrets, "command line of the "+name, text)
	}
	p.stop(t)
	log := []byte(p.log.tail(1 << 20))
	searchFor(t, secrets, "log", log)
	if !bytes.Contains(log, []byte(`"level":"debug"`)) {
		t.Error("the log is not at its most talkative level")
	}
	searchFiles(t, secrets, filepath.Join(p.world.Dir, "state"))
}

func searchFiles(t testing.TB, secrets map[string][]byte, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		t.Error("there is nothing in the state directory to search")
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		searchFor(t, secrets, entry.Name(), text)
	}
}
