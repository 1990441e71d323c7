package test

// Reloads at the edges: the end of the program while one is under way or just done, secrets that are not in files.

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM right after a reload ends everything, also what only requests of the old configuration could still use.
func TestEndRightAfterAReload(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, byHand) // with a budget of 20 s, so that the old processes would live for as long
	for n := range 2 {
		p.configure(t, func(s *settings) { byHand(s); s.HSMs[0]["sessions"], s.HSMs[1]["sessions"] = 5+n, 6+n })
		p.reload(t)
	}
	if got := len(p.workers()); got != 6 {
		t.Errorf("%d processes, want those of three generations", got)
	}
	began := time.Now()
	p.stop(t)
	if took := time.Since(began); took > 10*time.Second || p.ExitCode() != 0 {
		t.Errorf("exit code %d after %v", p.ExitCode(), took)
	}
}

// SIGTERM while a reload is under way calls it off.
func TestEndDuringAReload(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, byHand)
	begun := w.file("begun")
	script := w.file("slow-secret")
	writeFile(t, script, "#!/bin/sh\ntouch "+begun+"\nsleep 9\necho "+w.Other.SecretAccessKey+"\n")
	chmod(t, script, 0o700)
	p.configure(t, func(s *settings) {
		byHand(s)
		s.KeyStores[1]["credentials"] = []object{{"access_key_id": w.Other.AccessKeyID, "secret_access_key": object{"command": []string{script}}}}
	})
	err := p.Signal(syscall.SIGHUP)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		_, err := os.Stat(begun)
		return err
	})
	stdout, stderr, code := command(t, "hsm", "list", "--config", p.file) // the socket answers meanwhile
	if code != 0 {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	began := time.Now()
	p.stop(t)
	if took := time.Since(began); took > 6*time.Second || p.ExitCode() != 0 {
		t.Errorf("exit code %d after %v; log:\n%s", p.ExitCode(), took, p.log.tail(5))
	}
}

// SIGHUP while the program still asks for its secrets does not end it: it reloads when it serves.
func TestReloadSignalDuringTheStart(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	begun, script := w.file("begun"), w.file("slow-secret")
	writeFile(t, script, "#!/bin/sh\ntouch "+begun+"\nsleep 2\necho "+w.Other.SecretAccessKey+"\n")
	chmod(t, script, 0o700)
	p := w.launch(t, func(s *settings) {
		byHand(s)
		s.KeyStores[1]["credentials"] = []object{{"access_key_id": w.Other.AccessKeyID, "secret_access_key": object{"command": []string{script}}}}
	})
	eventually(t, startLimit, func() error {
		_, err := os.Stat(begun)
		return err
	})
	err := p.Signal(syscall.SIGHUP)
	if err != nil {
		t.Fatal(err)
	}
	p.waitServing(t)
	p.log.wait(t, startLimit, p.Exited(), func(line string) bool { return strings.Contains(line, `"by":"SIGHUP"`) })
	p.stop(t)
}

// Secrets of the environment, which the program takes out of it at the start, and those that commands give: the former are as they
// were, the latter are asked for again.
func TestReloadOfOtherSecrets(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	script, secret := w.file("print-secret"), w.file("printed")
	writeFile(t, secret, w.Other.SecretAccessKey+"\n")
	writeFile(t, script, "#!/bin/sh\ncat "+secret+"\n")
	chmod(t, script, 0o700)
	s := w.settings()
	byHand(s)
	s.HSMs[0]["pin"] = object{"env": "HSM_A_PIN"}
	s.KeyStores[0]["credentials"] = []object{{"access_key_id": w.Main.AccessKeyID, "secret_access_key": object{"env": "MAIN_SECRET"}}}
	s.KeyStores[1]["credentials"] = []object{{"access_key_id": w.Other.AccessKeyID, "secret_access_key": object{"command": []string{script}}}}
	file := w.file("secrets.yaml")
	s.Admin["socket"] = file + ".sock"
	writeFile(t, file, s.text(t))
	p, err := launchCommand(w, file, "env", "HSM_A_PIN="+w.A.PIN, "MAIN_SECRET="+w.Main.SecretAccessKey, program, "serve", "--config", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	a := p.worker(t, "hsm-a")
	s.KeyStores[1]["application"] = "payroll"
	replaceFile(t, file, s.text(t))
	w.Other.SecretAccessKey = text(43)
	replaceFile(t, secret, w.Other.SecretAccessKey+"\n")
	p.reload(t)
	c := p.client(t, http1)
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	c.at(otherPrefix).as(w.Other).post(t, healthURI, healthBody()).wantOK(t, new(object))
	if now := p.worker(t, "hsm-a"); now != a {
		t.Error("hsm-a has another process, though its PIN is the same")
	}
	for _, line := range p.log.all() {
		for _, secret := range []string{w.Main.SecretAccessKey, w.Other.SecretAccessKey, w.A.PIN} {
			if strings.Contains(line, secret) {
				t.Errorf("a secret is in the log: %s", line)
			}
		}
	}
}
