package test

// A thousand key stores, each in a file of its own: quick to start and to reload, and each only for its own.
// What an Encrypt costs with so many: go run ./test/bench -stores 1000 (docs/performance.md).

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/pkcs11"
)

func TestThousandKeyStores(t *testing.T) {
	t.Parallel()
	const count = 1000
	tenants := make([]tenant, count)
	for i := range tenants {
		tenants[i] = tenant{file: fmt.Sprintf("store-%04d", i), owner: fmt.Sprintf("agency-%04d", i), application: "records", group: "main"}
	}
	served := []int{0, count / 2, count - 1} // those that have a key: SoftHSM takes long to make thousands
	var keys []pkcs11.NewKey
	for _, i := range served {
		keys = append(keys, newKey(tenants[i].key(), 1))
	}
	w := newTestWorld(t, keys...)
	w.writeTenants(t, tenants)
	start := time.Now()
	p := w.start(t, func(s *settings) { byHand(s); s.KeyStores = nil })
	t.Logf("%d key stores are served after %v", count, time.Since(start).Round(time.Millisecond))
	if took := time.Since(start); took > 20*time.Second { // of which a quiet machine needs less than one
		t.Errorf("the start took %v", took)
	}
	c := p.client(t, http2)
	for n, i := range served {
		own := tenants[i]
		body := encryptBody([]byte(own.file), nil)
		s := c.at(own.prefix()).as(own.credential).encrypt(t, own.key(), body)
		if got := c.at(own.prefix()).as(own.credential).decrypt(t, own.key(), s, nil); string(got) != own.file {
			t.Errorf("decrypted to %q", got)
		}
		other := tenants[served[(n+1)%len(served)]]
		c.at(own.prefix()).as(other.credential).post(t, encryptURI(own.key()), body).wantError(t, 401, "AuthenticationFailedException")
		c.at(own.prefix()).as(own.credential).post(t, encryptURI(other.key()), body).wantError(t, 404, "KeyNotFoundException")
	}

	// One of them changes, and nothing else.
	last := tenants[count-1]
	replaceFile(t, filepath.Join(w.Dir, "key_stores.d", last.file+".yaml"), last.text()+"blocked: true\n")
	start = time.Now()
	r := p.reload(t)
	if took := time.Since(start); took > 20*time.Second || len(r.Changes) != 1 {
		t.Errorf("after %v the changes are %+v", took, r.Changes)
	}
	c.at(last.prefix()).as(last.credential).post(t, healthURI, healthBody()).wantError(t, 400, "InvalidStateException")
	c.at(tenants[0].prefix()).as(tenants[0].credential).encrypt(t, tenants[0].key(), encryptBody([]byte("x"), nil))
}
