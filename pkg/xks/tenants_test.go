package xks

// What the tests of several key stores share.

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
)

var otherCredential = sigv4.Credential{
	AccessKeyID:     "BBBBCCCCDDDDEEEEFFFF",
	SecretAccessKey: "Zt0uHk3Jm6vBp2LdFs4Gc9TaQiXoEyRzq7W8rNe1Yx5=",
}

var otherCredentials = []sigv4.Credential{otherCredential}

const otherURI = "/tenant/two" + apiPath

// withOther adds a second key store with a credential of its own.
func withOther(c *Config, _ *group.Config) {
	c.KeyStores = append(c.KeyStores, KeyStoreConfig{
		Name: "store-two", PathPrefix: "/tenant/two", Credentials: otherCredentials, Labels: []string{"*"},
	})
}

// withQuota gives the first key store a quota.
func withQuota(q Quota) change {
	return func(c *Config, _ *group.Config) { c.KeyStores[0].Quota = q }
}

// call is a request that can be served again and again: a signature is good for five minutes.
type call struct {
	path   string
	body   []byte
	header http.Header
	host   string
}

func newCall(t testing.TB, credential sigv4.Credential, path string, body any) call {
	t.Helper()
	c := call{path: path, body: encode(t, body), host: "xks.example.com"}
	request := c.request()
	request.Header.Set("Content-Type", "application/json")
	sign(request, path, c.body, credential, "us-east-1", time.Now())
	c.header = request.Header
	return c
}

func (c call) request() *http.Request {
	request := httptest.NewRequest(http.MethodPost, "https://"+c.host+"/", bytes.NewReader(c.body))
	request.RequestURI = c.path
	if c.header != nil {
		request.Header = c.header.Clone()
	}
	return request
}

// again serves a call.
func (r *rig) again(c call) reply { return r.serve(c.request()) }

// sendAs signs with any credential.
func (r *rig) sendAs(credential sigv4.Credential, path string, body any) reply {
	r.t.Helper()
	return r.again(newCall(r.t, credential, path, body))
}

// otherEncrypt is an Encrypt in the key store that withOther added.
func (r *rig) otherEncrypt() reply {
	r.t.Helper()
	return r.sendAs(otherCredential, otherURI+"/keys/"+goodKey+"/encrypt", encryptFields(nil))
}

// status is a key store's, by its name.
func (r *rig) status(name string) KeyStoreStatus {
	r.t.Helper()
	for _, s := range r.handler.KeyStores() {
		if s.Name == name {
			return s
		}
	}
	r.t.Fatalf("no key store %q", name)
	return KeyStoreStatus{}
}

// counted is how often an operation of a key store had an outcome.
func (s KeyStoreStatus) counted(operation, outcome string) uint64 {
	for _, c := range s.Requests {
		if c.Operation == operation && c.Outcome == outcome {
			return c.Count
		}
	}
	return 0
}

// wantThrottled asserts a refusal by one limit, and that the log names it.
func (r *rig) wantThrottled(p reply, limit throttle) {
	r.t.Helper()
	p.want(r.t, throttling)
	if got := r.lastLine()["throttled"]; got != string(limit) {
		r.t.Errorf("the log says %v, not %q", got, limit)
	}
}

// manyStores is n key stores, each with a credential, keys of its own and a quota.
func manyStores(n, keys int) []KeyStoreConfig {
	stores := make([]KeyStoreConfig, 0, n)
	for i := range n {
		store := KeyStoreConfig{
			Name: fmt.Sprintf(
				"agency-%04d", i,
			), PathPrefix: fmt.Sprintf("/agencies/%04d", i), Credentials: []sigv4.Credential{testCredential},
			Quota: Quota{Rate: 1_000_000},
		}
		for k := range keys {
			store.Labels = append(store.Labels, fmt.Sprintf("agency-%04d-%d", i, k))
		}
		stores = append(stores, store)
	}
	return stores
}
