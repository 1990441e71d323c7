package test

// A credential is rotated on the running proxy as docs/operations.md has it (A5), with requests all the time and none lost.

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/sigv4"
)

// usesOf is what `credentials list` says: when each access key of a key store was last used.
func (p *proxy) usesOf(t testing.TB, keyStore string) map[string]time.Time {
	t.Helper()
	var uses struct {
		Credentials []struct {
			AccessKeyID string
			LastUsed    time.Time
		}
	}
	stdout, stderr, code := command(t, "credentials", "list", "--json", "--key-store", keyStore, "--config", p.file)
	err := json.Unmarshal([]byte(stdout), &uses)
	if code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	times := map[string]time.Time{}
	for _, c := range uses.Credentials {
		times[c.AccessKeyID] = c.LastUsed
	}
	return times
}

// withCredentials gives the key store main these, and writes the proxy's file anew.
func (p *proxy) withCredentials(t testing.TB, credentials ...object) {
	t.Helper()
	s := p.world.settings()
	s.Admin["socket"] = p.file + ".sock"
	s.KeyStores[0]["credentials"] = credentials
	writeFile(t, p.file, s.text(t))
}

func TestRotation(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	old := object{"access_key_id": w.Main.AccessKeyID, "secret_access_key": object{"file": filepath.Join(w.Dir, w.Main.AccessKeyID)}}
	p := w.start(t, func(s *settings) { s.KeyStores[0]["credentials"] = []object{old} })
	l := p.startLoad(t, http1, 100, 4) // with the old one, as KMS's hosts go on to for a while

	// Make the new one, add it, reload.
	secretFile := filepath.Join(w.Dir, "new.secret")
	steps := p.says(t, 0, "Access key ", "credentials", "new", secretFile, "--key-store", "main")
	var console struct {
		XksProxyUriPath                  string
		XksProxyAuthenticationCredential struct{ AccessKeyId, RawSecretAccessKey string }
	}
	text, err := os.ReadFile(secretFile + ".json")
	if err == nil {
		err = json.Unmarshal(text, &console)
	}
	if err != nil {
		t.Fatal(err)
	}
	fresh := sigv4.Credential{AccessKeyID: console.XksProxyAuthenticationCredential.AccessKeyId, SecretAccessKey: console.XksProxyAuthenticationCredential.RawSecretAccessKey}
	if console.XksProxyUriPath != mainPrefix+apiPath || !strings.Contains(steps, fresh.AccessKeyID) || strings.Contains(steps, fresh.SecretAccessKey) {
		t.Fatalf("%s: %s", console.XksProxyUriPath, steps)
	}
	c := p.client(t, http1)
	body := encryptBody([]byte("x"), nil)
	c.as(fresh).post(t, encryptURI("key-1"), body).wantError(t, 401, "AuthenticationFailedException")
	added := object{"access_key_id": fresh.AccessKeyID, "secret_access_key": object{"file": secretFile}}
	p.withCredentials(t, old, added)
	p.says(t, 0, "", "reload")
	c.as(fresh).encrypt(t, "key-1", body) // the very next request
	c.encrypt(t, "key-1", body)

	// AWS is told; its hosts switch. The old one's last use stands still, the new one's does not.
	eventually(t, startLimit, func() error {
		if uses := p.usesOf(t, "main"); uses[fresh.AccessKeyID].IsZero() || uses[w.Main.AccessKeyID].IsZero() {
			return fmt.Errorf("last uses: %v", uses)
		}
		return nil
	})
	eventually(t, startLimit, func() error {
		if n := l.count(); n < 20 {
			return fmt.Errorf("only %d requests", n)
		}
		return nil
	})
	l.end()
	l.wantNoFailure(t, 20)
	before := p.usesOf(t, "main")
	eventually(t, startLimit, func() error {
		c.as(fresh).encrypt(t, "key-1", body)
		if after := p.usesOf(t, "main"); !after[fresh.AccessKeyID].After(before[fresh.AccessKeyID]) || !after[w.Main.AccessKeyID].Equal(before[w.Main.AccessKeyID]) {
			return fmt.Errorf("last uses: %v, before %v", after, before)
		}
		return nil
	})
	_, metrics := p.get(t, c, "http://"+p.Health+"/metrics")
	if !strings.Contains(string(metrics), `xks_proxy_credential_last_used_timestamp_seconds{access_key_id="`+fresh.AccessKeyID+`",key_store="main"} 1.`) {
		t.Error("the metrics lack the last use of the new one")
	}

	// The old one goes.
	p.withCredentials(t, added)
	p.says(t, 0, "", "reload")
	c.post(t, encryptURI("key-1"), body).wantError(t, 401, "AuthenticationFailedException")
	c.as(fresh).encrypt(t, "key-1", body)
	if _, known := p.usesOf(t, "main")[w.Main.AccessKeyID]; known {
		t.Error("the old one is still listed")
	}
	searchFor(t, map[string][]byte{"the new secret": []byte(fresh.SecretAccessKey)}, "log", []byte(p.log.tail(1<<20)))
}

// When a credential was last used is known after a restart.
func TestLastUseSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, nil)
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	before := p.usesOf(t, "main")
	if before[w.Main.AccessKeyID].IsZero() || !before[w.Second.AccessKeyID].IsZero() {
		t.Fatalf("last uses: %v", before)
	}
	p.stop(t)
	after := w.start(t, nil).usesOf(t, "main")
	if !after[w.Main.AccessKeyID].Equal(before[w.Main.AccessKeyID]) || !after[w.Second.AccessKeyID].IsZero() {
		t.Errorf("last uses: %v, before %v", after, before)
	}
}
