package test

// Keys and versions that appear, vanish, or are on one HSM only: K2, X7, R4, and
// what is remembered of them across restarts.

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/pkcs11"
)

// catalogueLimit: the tests list the keys every second.
const catalogueLimit = 15 * time.Second

// keyStatus is the answer of GetKeyMetadata, or the name of its error.
func (c *client) keyStatus(t testing.TB, key string) string {
	t.Helper()
	r := c.post(t, metadataURI(key), keyMetadataBody())
	var answer struct{ KeyStatus, ErrorName string }
	err := decodeInto(r.body, &answer)
	if err != nil {
		t.Fatalf("%d %q", r.status, r.body)
	}
	return answer.KeyStatus + answer.ErrorName
}

func (c *client) waitKeyStatus(t testing.TB, key, want string) {
	t.Helper()
	eventually(t, catalogueLimit, func() error {
		if got := c.keyStatus(t, key); got != want {
			return fmt.Errorf("key %s is %s, not %s; log:\n%s", key, got, want, c.proxy.log.tail(8))
		}
		return nil
	})
}

// A key that was on every HSM and is gone from one: GetKeyMetadata says so (K2), what was made with it is
// decrypted, and Encrypt does what lost_key says.
func TestKeyGoneFromOneHSM(t *testing.T) {
	t.Parallel()
	for _, lostKey := range []string{"encrypt", "refuse"} {
		t.Run(lostKey, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, func(s *settings) { s.Group["lost_key"] = lostKey }, newKey("key-3", 1))
			c := p.client(t, http1)
			before := c.encrypt(t, "key-3", encryptBody([]byte("before"), nil))
			p.world.B.destroy(t, keyID{"key-3", 1})
			c.waitKeyStatus(t, "key-3", "DISABLED")
			after := c.post(t, encryptURI("key-3"), encryptBody([]byte("x"), nil))
			if lostKey == "refuse" {
				after.wantError(t, 400, "InvalidStateException")
			} else {
				after.wantOK(t, new(object))
			}
			for range 10 { // whichever HSM is asked first
				if got := c.decrypt(t, "key-3", before, nil); string(got) != "before" {
					t.Errorf("decrypted to %q", got)
				}
			}
			p.world.A.destroy(t, keyID{"key-3", 1})
			c.waitKeyStatus(t, "key-3", "KeyNotFoundException")
			p.wantHealthy(t)
		})
	}
}

// A key that only one HSM ever held makes no data, which a failover would lose, whatever lost_key says.
func TestKeyOnOneHSMOnly(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	p.world.A.create(t, newKey("key-3", 1))
	c := p.client(t, http1)
	c.waitKeyStatus(t, "key-3", "DISABLED")
	c.post(t, encryptURI("key-3"), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
	p.wantHealthy(t)
}

// A new version is used when it is on every HSM, not before; old ciphertexts go on decrypting.
func TestNewVersion(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c := p.client(t, http1)
	old := c.encrypt(t, "key-1", encryptBody([]byte("old"), nil))
	third := newKey("key-1", 3)
	p.world.A.create(t, third)
	// A listing a second: in three of them the version is seen on A.
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil)); !bytes.Equal(s.CiphertextMetadata, metadataOf(2)) {
			t.Fatalf("ciphertextMetadata %x while version 3 is on one HSM only", s.CiphertextMetadata)
		}
	}
	onlyOnA := seal(t, third.Value, 3, 12, []byte("made on A"), nil)
	for range 10 {
		if got := c.decrypt(t, "key-1", onlyOnA, nil); string(got) != "made on A" {
			t.Errorf("decrypted to %q", got)
		}
	}
	p.world.B.create(t, third)
	eventually(t, catalogueLimit, func() error {
		s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		if !bytes.Equal(s.CiphertextMetadata, metadataOf(3)) {
			return fmt.Errorf("ciphertextMetadata %x", s.CiphertextMetadata)
		}
		return nil
	})
	for range 10 {
		s := c.encrypt(t, "key-1", withCDIV(encryptBody([]byte("new"), nil)))
		if got := s.open(t, third.Value, nil); string(got) != "new" {
			t.Errorf("opened to %q", got)
		}
		c.decrypt(t, "key-1", s, nil)
		c.decrypt(t, "key-1", old, nil)
	}
	if got := c.keyStatus(t, "key-1"); got != "ENABLED" {
		t.Error(got)
	}
}

// A key deleted everywhere is not found, by live looks; restored, it works again.
func TestDeletedKey(t *testing.T) {
	t.Parallel()
	restored := newKey("key-3", 1)
	p := newProxy(t, nil, restored)
	c := p.client(t, http1)
	s := c.encrypt(t, "key-3", encryptBody([]byte("x"), nil))
	p.world.A.destroy(t, keyID{"key-3", 1})
	p.world.B.destroy(t, keyID{"key-3", 1})
	// At once, without waiting for a listing: cached handles must not survive, nor turn into a fault of the HSM.
	c.post(t, decryptURI("key-3"), decryptBody(s, nil)).wantError(t, 404, "KeyNotFoundException")
	c.post(t, encryptURI("key-3"), encryptBody([]byte("x"), nil)).wantError(t, 404, "KeyNotFoundException")
	c.waitKeyStatus(t, "key-3", "KeyNotFoundException")
	if line := p.log.find(func(line string) bool {
		return containsAny(line, "taken out of service", `"to":"UNAVAILABLE"`, "will be started again")
	}); line != "" {
		t.Errorf("an HSM is blamed for a deleted key: %s", line)
	}
	p.world.create(t, restored)
	c.waitKeyStatus(t, "key-3", "ENABLED")
	if got := c.decrypt(t, "key-3", s, nil); string(got) != "x" {
		t.Errorf("decrypted to %q", got)
	}
	c.encrypt(t, "key-3", encryptBody([]byte("x"), nil))
}

// A new key is found at its first use, without waiting for a listing.
func TestNewKey(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) { s.Group["catalogue_interval"] = "1h" })
	p.world.create(t, newKey("brand-new", 1))
	c := p.client(t, http1)
	s := c.encrypt(t, "brand-new", encryptBody([]byte("x"), nil))
	c.decrypt(t, "brand-new", s, nil)
}

// A restart while one HSM is away does not begin to use a version which that HSM never had.
func TestCatalogueIsRemembered(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	first := w.start(t, nil)
	first.wantHealthy(t)
	files, err := filepath.Glob(filepath.Join(w.Dir, "state", "catalogue-*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("state directory: %v %v", files, err)
	}
	first.stop(t)
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is %v", filepath.Base(file), info.Mode())
		}
	}
	w.B.away(t)
	w.A.create(t, newKey("key-1", 3), newKey("only-on-a", 1))
	p := w.start(t, nil)
	c := p.client(t, http1)
	for range 20 {
		if s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil)); !bytes.Equal(s.CiphertextMetadata, metadataOf(2)) {
			t.Fatalf("ciphertextMetadata %x", s.CiphertextMetadata)
		}
	}
	if got := c.keyStatus(t, "only-on-a"); got != "DISABLED" {
		t.Error(got)
	}
	if p.log.find(func(line string) bool { return strings.Contains(line, "key catalogue recalled") }) == "" {
		t.Error("the log does not tell what was recalled")
	}
}

// R4: a key that an HSM lacks is reported in the log, by `hsm list` and in the metrics, without a request for it.
func TestMissingKeyIsReported(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	const metric = `xks_proxy_hsm_group_key_findings{hsm_group="main",kind="key_missing"} `
	c := p.client(t, http1)
	if _, text := p.get(t, c, "http://"+p.Health+"/metrics"); !strings.Contains(text, metric+"0\n") {
		t.Errorf("the metrics lack %s0", metric)
	}
	p.world.A.create(t, newKey("nobody-asks", 1))
	line := p.log.wait(t, catalogueLimit, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"finding":"key missing"`) && strings.Contains(line, `"label":"nobody-asks"`)
	})
	if !strings.Contains(line, `"hsms":["hsm-b"]`) || !containsAny(line, `"level":"warn"`, `"level":"error"`) {
		t.Errorf("the log says %s", line)
	}
	eventually(t, startLimit, func() error {
		if _, text := p.get(t, c, "http://"+p.Health+"/metrics"); !strings.Contains(text, metric+"1\n") {
			return fmt.Errorf("the metrics lack %s1", metric)
		}
		return nil
	})
	stdout, stderr, code := command(t, "hsm", "list", "--config", p.file)
	if code != 0 || !strings.Contains(stdout, `key missing: "nobody-asks"`) {
		t.Errorf("hsm list: exit code %d: %s%s", code, stdout, stderr)
	}
	if asked := p.log.find(func(line string) bool { return strings.Contains(line, `"key":"nobody-asks"`) }); asked != "" {
		t.Errorf("somebody asked for the key: %s", asked)
	}
	p.world.B.create(t, newKey("nobody-asks", 1)) // of other material, which is another finding
	eventually(t, catalogueLimit, func() error {
		if _, text := p.get(t, c, "http://"+p.Health+"/metrics"); !strings.Contains(text, metric+"0\n") {
			return fmt.Errorf("the metrics lack %s0", metric)
		}
		return nil
	})
}

// Two objects for one version on one HSM: it cannot know which is meant, and what was made with that
// version is decrypted by the other HSM.
func TestDuplicate(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	key := newKey("key-3", 1)
	w.A.create(t, key)
	w.B.createTwice(t, key, newKey("key-3", 1))
	p := w.start(t, nil)
	c := p.client(t, http1)
	p.log.wait(t, catalogueLimit, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"finding":"duplicate version"`) && strings.Contains(line, `"label":"key-3"`) && strings.Contains(line, `"hsms":["hsm-b"]`)
	})
	before := seal(t, key.Value, 1, 12, []byte("before"), nil)
	for range 20 { // whichever HSM is asked first
		r := c.post(t, decryptURI("key-3"), decryptBody(before, nil))
		var answer struct{ Plaintext []byte }
		err := decodeInto(r.body, &answer)
		if r.status != http.StatusOK || err != nil || string(answer.Plaintext) != "before" {
			t.Fatalf("%d %s; log line:\n%s", r.status, r.body, r.line())
		}
	}
	p.wantHealthy(t)
}

// createTwice makes two objects of one label and version, which CreateKeys refuses: the first is put aside,
// a file of SoftHSM's, while the second is made.
func (k *token) createTwice(t *testing.T, one, other pkcs11.NewKey) {
	t.Helper()
	objects := func() []string {
		files, err := filepath.Glob(filepath.Join(k.Tokens, "*", "*.object"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	old := objects()
	k.create(t, one)
	added := slices.DeleteFunc(objects(), func(file string) bool { return slices.Contains(old, file) })
	if len(added) != 1 {
		t.Fatalf("a key is in the files %v", added)
	}
	content, err := os.ReadFile(added[0])
	if err != nil {
		t.Fatal(err)
	}
	remove(t, added[0])
	k.create(t, other)
	writeFile(t, added[0], string(content))
}
