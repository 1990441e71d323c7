package test

// Another vendor's module in the pair: p11-kit-proxy.so in front of SoftHSM. It gives every caller
// of C_GetFunctionList a list of its own, answers with its own session handles, and shows the slots
// of all modules that it finds.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// behindP11Kit has p11-kit-proxy.so load SoftHSM for one HSM of the settings.
func (s *settings) behindP11Kit(t testing.TB, hsm string) {
	t.Helper()
	find := exec.Command("sh", "p11kit.sh", "install")
	find.Stderr = os.Stderr
	path, err := find.Output()
	if err != nil {
		t.Fatalf("p11-kit-proxy.so: %v", err)
	}
	// The user's configuration of p11-kit: the same file name takes the place of the system's.
	config := t.TempDir()
	modules := filepath.Join(config, "pkcs11", "modules")
	err = os.MkdirAll(modules, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(modules, "softhsm2.module"), "module: "+module+"\n")
	for _, h := range s.HSMs {
		if h["name"] == hsm {
			h["module"] = strings.TrimSpace(string(path))
			h["environment"] = append(h["environment"].([]string), "XDG_CONFIG_HOME="+config)
			return
		}
	}
	t.Fatalf("no HSM %s", hsm)
}

// TestMemberBehindP11Kit: the pair serves through both members, tells tampered from good, and
// loses no request when the worker of the member behind p11-kit is killed (R1, R2, D2).
func TestMemberBehindP11Kit(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.withSomeLeisure()
		s.behindP11Kit(t, "hsm-a")
	})
	p.waitActive(t, "hsm-a", "hsm-b")
	p.log.wait(t, startLimit, p.Exited(), func(line string) bool { // what C_GetInfo says of the library
		return strings.Contains(line, `"hsm":"hsm-a"`) && strings.Contains(line, `"library":"PKCS#11 Kit`)
	})
	c := p.client(t, http1)
	t.Run("both members serve", func(t *testing.T) { p.wantBothServe(t, c) })
	t.Run("tampered", func(t *testing.T) {
		s := c.encrypt(t, "key-1", encryptBody([]byte("good"), []byte("aad")))
		for range 50 {
			bad := *s
			bad.AuthenticationTag = slices.Clone(s.AuthenticationTag)
			bad.AuthenticationTag[0] ^= 1
			body := decryptBody(&bad, []byte("aad"))
			c.post(t, decryptURI("key-1"), body).wantError(t, 400, "InvalidCiphertextException")
			if got := c.decrypt(t, "key-1", s, []byte("aad")); string(got) != "good" {
				t.Fatalf("a good ciphertext decrypted to %q", got)
			}
		}
		p.waitActive(t, "hsm-a", "hsm-b")
	})
	t.Run("its worker is killed", func(t *testing.T) {
		l := p.startLoad(t, http1, 200, 8)
		for range 3 {
			time.Sleep(500 * time.Millisecond)
			old := p.worker(t, "hsm-a")
			err := syscall.Kill(old, syscall.SIGKILL)
			if err != nil {
				t.Fatal(err)
			}
			waitGone(t, old)
			p.waitActive(t, "hsm-a")
		}
		l.wantNoFailure(t, 200)
	})
	p.wantBothServe(t, c)
	p.wantHealthy(t)
}

// wantBothServe encrypts and decrypts until each HSM has done both, by the log.
func (p *proxy) wantBothServe(t *testing.T, c *client) {
	t.Helper()
	missing := map[string]bool{}
	for _, hsm := range []string{"hsm-a", "hsm-b"} {
		for _, operation := range []string{"Encrypt", "Decrypt"} {
			missing[operation+" by "+hsm] = true
		}
	}
	note := func(r *reply, operation string) {
		line := parseLine(t, r.line())
		delete(missing, fmt.Sprint(operation, " by ", line["hsm"]))
	}
	for range 20 {
		var s sealed
		r := c.post(t, encryptURI("key-1"), encryptBody([]byte("both"), nil))
		r.wantOK(t, &s)
		note(r, "Encrypt")
		for range 2 { // the members take turns: an even number of requests would go one way only
			r = c.post(t, decryptURI("key-1"), decryptBody(&s, nil))
			if got := r.wantPlaintext(t); string(got) != "both" {
				t.Fatalf("decrypted to %q", got)
			}
			note(r, "Decrypt")
		}
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("of 20 Encrypts and 40 Decrypts there was no %v", missing)
}
