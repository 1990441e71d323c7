package test

// The kill switch on the real program: blocked for the very next request, after a restart, and until it is
// taken back; a list that cannot be read lets nobody in.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// says runs a command for this proxy and checks its exit code and what it prints, errors included, begins with.
func (p *proxy) says(t testing.TB, code int, begins string, arguments ...string) string {
	t.Helper()
	stdout, stderr, got := command(t, append(arguments, "--config", p.file)...)
	if got != code || !strings.HasPrefix(stdout+stderr, begins) {
		t.Fatalf("%s: exit code %d, want %d: %s%swant %s\nlog:\n%s", strings.Join(arguments, " "), got, code, stdout, stderr, begins, p.log.tail(5))
	}
	return stdout
}

// blockWorld serves main and other, which both reach the key other-1.
func blockWorld(t testing.TB) *world { return newTestWorld(t, newKey("other-1", 1)) }

func TestBlockKeyStore(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	blocked, free := p.client(t, http1), p.client(t, http1).at(otherPrefix).as(w.Other)
	body := encryptBody([]byte("x"), nil)
	s := blocked.encrypt(t, "key-1", body)
	free.encrypt(t, "other-1", body)
	p.says(t, 0, "The key store main is blocked: ", "block", "key-store", "main", "--reason", "case 4711")
	for what, r := range map[string]*reply{ // on a connection that was open before
		"decrypt":  blocked.post(t, decryptURI("key-1"), decryptBody(s, nil)),
		"encrypt":  blocked.post(t, encryptURI("key-1"), body),
		"metadata": blocked.post(t, metadataURI("key-1"), keyMetadataBody()),
		"health":   blocked.post(t, healthURI, healthBody()),
	} {
		err := r.checkError(400, "InvalidStateException")
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A8: a client that cannot sign learns nothing of it.
	blocked.as(w.Other).post(t, encryptURI("key-1"), body).wantError(t, 401, "AuthenticationFailedException")
	free.encrypt(t, "other-1", body)
	p.wantAudit(t, `"order":"block"`, `"what":"key store main"`, `"reason":"case 4711"`, `"result":"done"`, fmt.Sprintf(`"uid":%d`, os.Getuid()))

	p.stop(t)
	again := w.start(t, nil)
	again.log.wait(t, 5*time.Second, again.Exited(), func(line string) bool {
		return strings.Contains(line, `"msg":"blocks of operators are in effect"`) && strings.Contains(line, `"key store main"`)
	})
	blocked = again.client(t, http1)
	blocked.post(t, decryptURI("key-1"), decryptBody(s, nil)).wantError(t, 400, "InvalidStateException")
	again.says(t, 0, "The block of the key store main by ", "unblock", "key-store", "main", "--reason", "closed")
	blocked.decrypt(t, "key-1", s, nil)
	again.wantAudit(t, `"order":"unblock"`, `"reason":"closed"`, `"result":"done"`)
	again.stop(t)
	w.start(t, nil).client(t, http1).decrypt(t, "key-1", s, nil)
}

func (p *proxy) wantAudit(t testing.TB, parts ...string) {
	t.Helper()
	p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
		for _, part := range append(parts, `"msg":"admin"`, `"level":"warn"`) {
			if !strings.Contains(line, part) {
				return false
			}
		}
		return true
	})
}

func TestBlockKey(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	main, other := p.client(t, http1), p.client(t, http1).at(otherPrefix).as(w.Other)
	body := encryptBody([]byte("x"), nil)
	s := main.encrypt(t, "other-1", body)
	refused := func(c *client) {
		t.Helper()
		c.post(t, encryptURI("other-1"), body).wantError(t, 400, "InvalidStateException")
		c.post(t, decryptURI("other-1"), decryptBody(s, nil)).wantError(t, 400, "InvalidStateException")
		var answer struct{ KeyStatus string }
		c.post(t, metadataURI("other-1"), keyMetadataBody()).wantOK(t, &answer)
		if answer.KeyStatus != "DISABLED" {
			t.Errorf("a blocked key is %s", answer.KeyStatus)
		}
	}
	p.says(t, 0, "The key other-1 of key store main is blocked: ", "block", "key", "other-1", "--key-store", "main")
	refused(main)
	other.decrypt(t, "other-1", s, nil)
	main.encrypt(t, "key-1", body)
	p.says(t, 0, `The key with the label "other-1" is blocked in every key store: `, "block", "key", "other-1")
	refused(other)
	p.says(t, 1, "xks-proxy: The block of the key other-1 of key store main by ", "unblock", "key", "other-1", "--key-store", "main")
	refused(main)
	p.says(t, 0, "The block of the key with the label \"other-1\" by ", "unblock", "key", "other-1")
	main.decrypt(t, "other-1", s, nil)
	other.decrypt(t, "other-1", s, nil)
}

// With requests all the time: every one that begins after the command has returned is refused, every one before is served.
func TestBlockUnderLoad(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	c := p.client(t, http1)
	for range 5 {
		l := p.startLoad(t, http1, 100, 4)
		eventually(t, startLimit, func() error {
			if l.count() < 10 {
				return fmt.Errorf("%d requests", l.count())
			}
			return nil
		})
		p.says(t, 0, "The key store main is blocked: ", "block", "key-store", "main")
		for range 20 {
			c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
		}
		l.end()
		p.says(t, 0, "The block of the key store main by ", "unblock", "key-store", "main")
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
}

// A list of blocks that cannot be read: the program does not start, and says what to do.
func TestDamagedBlocks(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	p.says(t, 0, "The key store main is blocked: ", "block", "key-store", "main")
	p.stop(t)
	path := filepath.Join(w.Dir, "state", "blocks.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []string{"", string(good[:len(good)/2]), `{"format":2,"blocks":[]}`} {
		writeFile(t, path, damaged)
		bad := w.launch(t, nil)
		if code := bad.waitExit(t, startLimit); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if said := bad.log.tail(3); !strings.Contains(said, path) || !strings.Contains(said, "refusing to start") || !strings.Contains(said, "restore the file, or delete it") {
			t.Errorf("it says %s", said)
		}
	}
	writeFile(t, path, string(good))
	w.start(t, nil).client(t, http1).post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
}

// The state directory has become unwritable: blocked anyway, and the command fails so that somebody looks.
func TestBlockThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	c := p.client(t, http1)
	path := filepath.Join(w.Dir, "state", "blocks.json")
	err := os.Mkdir(path, 0o700) // nothing can take its place, for root neither
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, 1, "xks-proxy: the key store main IS BLOCKED now, but the block will not survive a restart: ", "block", "key-store", "main")
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
	stdout, _, code := command(t, "status", "--config", p.file)
	if code != 4 || !strings.Contains(stdout, "What is blocked will not survive a restart") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	p.says(t, 1, "xks-proxy: the key store main stays blocked, ", "unblock", "key-store", "main")
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
	err = os.Remove(path)
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, 0, "The block of the key store main by ", "unblock", "key-store", "main")
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
}

// What the operator sees of all this: status, list, metrics.
func TestBlockShows(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	p.waitActive(t, "hsm-a", "hsm-b")
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.says(t, 0, "The key store other is blocked: ", "block", "key-store", "other", "--reason", "case 4711")
	p.says(t, 1, "xks-proxy: The key store blocked had no block of its own; it stays blocked: the configuration has blocked: true at "+p.file+":", "unblock", "key-store", "blocked")
	if list := p.says(t, 0, "", "block", "list"); !strings.Contains(list, "key store other") || !strings.Contains(list, "case 4711") || !strings.Contains(list, "configuration") {
		t.Errorf("%s", list)
	}
	var status struct {
		State     string
		KeyStores []struct {
			Name, Blocked string
			Requests      int
		}
	}
	stdout, _, _ := command(t, "status", "--json", "--config", p.file) // its exit code is about the test's short-lived certificate, too
	err := json.Unmarshal([]byte(stdout), &status)
	if err != nil || status.State != "ready" || len(status.KeyStores) != 4 {
		t.Fatalf("%v: %s", err, stdout)
	}
	for _, k := range status.KeyStores {
		switch {
		case k.Name == "blocked" && k.Blocked != "configuration", k.Name == "other" && (k.Blocked == "" || k.Blocked == "configuration"), k.Name == "main" && (k.Blocked != "" || k.Requests == 0):
			t.Errorf("%+v", k)
		}
	}
	_, metrics := p.get(t, p.client(t, http1), "http://"+p.Health+"/metrics")
	for _, want := range []string{`xks_proxy_blocks{kind="key_store"} 1`, `xks_proxy_key_store_blocked{key_store="other"} 1`, `xks_proxy_key_store_blocked{key_store="blocked"} 1`,
		`xks_proxy_requests_total{key_store="main",operation="Encrypt",outcome="ok"} 1`} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("ready: %d", status)
	}
}

// The name of a key store is by default that of its file: renaming it must not unblock it, neither by a reload nor by a restart.
func TestBlockedUnderAnotherName(t *testing.T) {
	t.Parallel()
	p, tenants := startTenants(t)
	n := tenants[0]
	rename := func(from, to string) {
		for _, of := range []string{"key_stores.d/%s.yaml", "key_stores.d/secrets/%s.key"} {
			err := os.Rename(filepath.Join(p.world.Dir, fmt.Sprintf(of, from)), filepath.Join(p.world.Dir, fmt.Sprintf(of, to)))
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	blocked := func(p *proxy) {
		t.Helper()
		c := p.client(t, http1).at(n.prefix()).as(n.credential)
		c.post(t, encryptURI(n.key()), encryptBody([]byte("x"), nil)).wantError(t, 400, "InvalidStateException")
		c.post(t, healthURI, healthBody()).wantError(t, 400, "InvalidStateException")
	}
	p.says(t, 0, "The key store alpha is blocked: ", "block", "key-store", "alpha", "--reason", "case 4711")
	rename("alpha", "zulu")
	p.says(t, 0, "", "reload")
	blocked(p)
	p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"msg":"a blocked key store was renamed: the block follows it"`) && strings.Contains(line, `"now":"key store zulu"`)
	})
	p.stop(t)
	rename("zulu", "yankee")
	again, err := launchFile(p.world, p.file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.stop(t) })
	again.waitServing(t)
	blocked(again)
	// Unblocked by the name that it has now, it stays unblocked, whatever is reloaded.
	again.says(t, 0, "The block of the key store yankee by ", "unblock", "key-store", "yankee")
	c := again.client(t, http1).at(n.prefix()).as(n.credential)
	for range 2 {
		c.encrypt(t, n.key(), encryptBody([]byte("x"), nil))
		again.says(t, 0, "", "reload")
	}
	c.encrypt(t, n.key(), encryptBody([]byte("x"), nil))
}
