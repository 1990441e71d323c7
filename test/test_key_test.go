package test

// The test key that serve makes itself (test_key.create): on a fresh pair, on a token that comes
// back without it, and not on one that refuses.

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"xks-proxy/test/faulty"
)

// keylessPair is a pair with a key of a tenant and without the proxy's test key.
func keylessPair(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "keyless-")
	if err != nil {
		t.Fatal(err)
	}
	keys := &pair{
		Dir:    dir,
		Values: map[keyID][]byte{},
		A:      newToken(t, dir, "hsm-a"),
		B:      newToken(t, dir, "hsm-b"),
	}
	keys.create(t, newKey("key-1", 1))
	return newWorld(t, dir, keys)
}

func createsTestKey(s *settings) { s.Group["test_key"] = object{"label": testKey, "create": true} }

// testKeysMade are the counters of an HSM.
func (p *proxy) testKeys(t *testing.T, hsm string) string {
	t.Helper()
	made := p.metric(t, fmt.Sprintf(`xks_proxy_hsm_test_keys_made_total{hsm=%q}`, hsm))
	failed := p.metric(t, fmt.Sprintf(`xks_proxy_hsm_test_keys_failed_total{hsm=%q}`, hsm))
	return made + " made, " + failed + " failed"
}

func (p *proxy) expectTestKeys(t *testing.T, hsm, want string) {
	t.Helper()
	eventually(t, startLimit, func() error {
		got := p.testKeys(t, hsm)
		if got != want {
			return fmt.Errorf("%s: %s, want %s; log:\n%s", hsm, got, want, p.log.tail(10))
		}
		return nil
	})
}

func TestServeCreatesTestKey(t *testing.T) {
	t.Parallel()
	w := keylessPair(t)
	p := w.start(t, createsTestKey)
	p.waitActive(t, "hsm-a", "hsm-b")
	for _, hsm := range []string{"hsm-a", "hsm-b"} {
		p.expectTestKeys(t, hsm, "1 made, 0 failed")
		line := p.log.find(func(line string) bool {
			return strings.Contains(line, "did not have the proxy's test key") &&
				strings.Contains(line, `"hsm":"`+hsm+`"`)
		})
		if !strings.Contains(line, "made the test key") ||
			!strings.Contains(line, `"level":"info"`) {
			t.Errorf("%s: the log says %q", hsm, line)
		}
	}
	// The tenant's key serves, and a new process finds the test key there.
	c := p.client(t, http1)
	made := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.killWorker(t, "hsm-a")
	p.waitActive(t, "hsm-a")
	p.expectTestKeys(t, "hsm-a", "1 made, 0 failed")
	// Another token in its place, without the key: it is made there too. The tenant's key is compared
	// before it serves from there, as ever.
	w.A.replace(t, newKey("key-1", 1)) // other material
	p.killWorker(t, "hsm-a")
	p.expectTestKeys(t, "hsm-a", "2 made, 0 failed")
	p.waitActive(t, "hsm-a", "hsm-b")
	for range 50 {
		c.decrypt(t, "key-1", made, nil)
	}
}

// Proxies that share their HSMs and start at the same moment make one key on each HSM, and not one
// each: two keys of one version would be in the way of every probe.
func TestProxiesCreateOneTestKey(t *testing.T) {
	t.Parallel()
	w := keylessPair(t)
	var proxies []*proxy
	for i := range 4 {
		p := w.launch(t, func(s *settings) {
			createsTestKey(s)
			s.State = w.file(fmt.Sprintf("state-%d", i)) // one proxy locks it
		})
		t.Cleanup(func() { p.stop(t) })
		proxies = append(proxies, p)
	}
	for _, p := range proxies {
		p.waitServing(t)
		p.waitActive(t, "hsm-a", "hsm-b")
		for _, hsm := range []string{"hsm-a", "hsm-b"} {
			// A proxy that comes after the others have made it has nothing to make.
			if got := p.testKeys(t, hsm); got != "1 made, 0 failed" && got != "0 made, 0 failed" {
				t.Errorf("%s: %s; log:\n%s", hsm, got, p.log.find(func(line string) bool { return strings.Contains(line, "cannot make the") }))
			}
		}
	}
	command(t, "hsm", "refresh", "--config", proxies[0].file)
	eventually(t, startLimit, func() error { return proxies[0].oneTestKey(t) })
}

// oneTestKey is nil if there is one object of the test key on each of two HSMs.
func (p *proxy) oneTestKey(t *testing.T) error {
	t.Helper()
	stdout, stderr, _ := command(t, "keys", "list", "--json", "--config", p.file)
	var answer struct {
		Keys []struct {
			TestKey bool
			HSMs    []struct{ Objects []any }
		}
	}
	err := json.Unmarshal([]byte(stdout), &answer)
	if err != nil {
		return fmt.Errorf("%w: %s%s", err, stdout, stderr)
	}
	versions := 0
	for _, key := range answer.Keys {
		if !key.TestKey {
			continue
		}
		versions++
		if len(key.HSMs) != 2 || len(key.HSMs[0].Objects) != 1 || len(key.HSMs[1].Objects) != 1 {
			return fmt.Errorf("the test key is %+v", key.HSMs)
		}
	}
	if versions != 1 {
		return fmt.Errorf("%d versions of the test key", versions)
	}
	return nil
}

func TestServeCannotCreateTestKey(t *testing.T) {
	t.Parallel()
	w := keylessPair(t)
	p := w.start(t, func(s *settings) {
		createsTestKey(s)
		controls := s.misbehave(t)
		err := controls[0].Set(
			faulty.Rule{Function: "C_GenerateKey", Action: faulty.Return, Code: 0xE2},
		) // CKR_TOKEN_WRITE_PROTECTED
		if err != nil {
			t.Fatal(err)
		}
	})
	p.expectTestKeys(t, "hsm-a", "0 made, 1 failed")
	p.expectTestKeys(t, "hsm-b", "1 made, 0 failed")
	p.waitStatus(t, "hsm-a", "DEGRADED")
	p.waitStatus(t, "hsm-b", "ACTIVE")
	line := p.log.find(
		func(line string) bool { return strings.Contains(line, "cannot make the proxy's test key") },
	)
	for _, want := range []string{`"level":"warn"`, `"hsm":"hsm-a"`, "CKR_TOKEN_WRITE_PROTECTED", "xks-proxy hsm create-test-key"} {
		if !strings.Contains(line, want) {
			t.Errorf("%s is not in %q", want, line)
		}
	}
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
}
