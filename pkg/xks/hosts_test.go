package xks

// Hosts: a key store is there under its own names only; elsewhere its paths are like any that do
// not exist (requirement U5).

import (
	"net/http"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
)

func TestHosts(t *testing.T) {
	r := newRig(t, withOther, func(c *Config, _ *group.Config) {
		c.KeyStores[0].Hosts = []string{"one.example.com", "kms.one.example"}
	})
	unknown := string(r.send("/no/such"+apiPath+"/health", metadataOnly("x")).body)
	for host, served := range map[string]bool{
		"one.example.com": true, "ONE.example.COM": true, "one.example.com:443": true, "one.example.com:": true, "kms.one.example:8443": true,
		"one.example.com.": false, "two.example.com": false, "one.example.com:x": false, "one.example.com:443:443": false, "one.example.com.evil": false,
		"evil.one.example.com": false, "one.example.co": false, "": false, ":443": false, "[::1]:443": false, "\u212Ams.one.example": false,
	} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodPut} {
			c := newCall(t, testCredential, keyURI(goodKey, "encrypt"), encryptFields(nil))
			q := c.request()
			q.Host, q.Method = host, method
			sign(q, c.path, c.body, testCredential, "us-east-1", time.Now())
			p := r.serve(q)
			switch {
			case !served && (p.status != http.StatusNotFound || string(p.body) != unknown || p.header.Get("Allow") != ""):
				t.Errorf("%s at %q: %d %s", method, host, p.status, p.body)
			case served && method == http.MethodPost && p.status != http.StatusOK,
				served && method != http.MethodPost && p.status != http.StatusMethodNotAllowed:
				t.Errorf("%s at %q: %d %s", method, host, p.status, p.body)
			}
		}
	}
	r.otherEncrypt().wantOK(t) // which is there under any name
}

func TestHostsAllocateNothing(t *testing.T) {
	s := &keyStore{hosts: []string{"one.example.com"}}
	if n := testing.AllocsPerRun(100, func() { s.servedAt("One.example.com:443") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
