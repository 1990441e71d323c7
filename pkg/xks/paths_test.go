package xks

// Requirements U1 to U5: which request target is which operation, and nothing else is.

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/sigv4"
)

// severalStores serves "/tenant/one", "" and a prefix of several segments.
func severalStores(c *Config, _ *group.Config) {
	for name, prefix := range map[string]string{"root": "", "deep": "/a/b-c/d_e"} {
		store := c.KeyStores[0]
		store.Name, store.PathPrefix = name, prefix
		c.KeyStores = append(c.KeyStores, store)
	}
}

func TestPaths(t *testing.T) {
	r := newRig(t, severalStores)
	const served, elsewhere = "", string(invalidURIPath)
	longest := strings.Repeat("k", MaxKeyID)
	for _, c := range []struct{ path, want string }{
		// U1, U2.
		{"/kms/xks/v1/health", served},
		{"/tenant/one/kms/xks/v1/health", served},
		{"/a/b-c/d_e/kms/xks/v1/health", served},
		{"/kms/xks/v1/keys/key-1/metadata", served},
		{"/tenant/one/kms/xks/v1/keys/key-1/metadata", served},
		{"/a/b-c/d_e/kms/xks/v1/keys/key-1/metadata", served},
		// U1, U5: prefixes are exact and case-sensitive.
		{"/tenant/two/kms/xks/v1/health", elsewhere},
		{"/tenant/kms/xks/v1/health", elsewhere},
		{"/tenant/one/more/kms/xks/v1/health", elsewhere},
		{"/Tenant/one/kms/xks/v1/health", elsewhere},
		{"/tenant/one/KMS/xks/v1/health", elsewhere},
		{"/tenant/one/kms/xks/V1/health", elsewhere},
		{"/tenant/one/kms/xks/v1/Health", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key-1/Metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/Keys/key-1/metadata", elsewhere},
		{"/a/b-c/kms/xks/v1/health", elsewhere},
		{"a/b-c/d_e/kms/xks/v1/health", elsewhere},
		// U5: slashes, dots, percent signs.
		{"/tenant/one/kms/xks/v1/health/", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key-1/metadata/", elsewhere},
		{"//tenant/one/kms/xks/v1/health", elsewhere},
		{"/tenant//one/kms/xks/v1/health", elsewhere},
		{"/tenant/one/kms/xks/v1//health", elsewhere},
		{"/tenant/one/kms/xks/v1/keys//metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/./health", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/../health", elsewhere},
		{"/tenant/one/../one/kms/xks/v1/health", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/./metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/../metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/%68ealth", elsewhere},
		{"/tenant%2fone/kms/xks/v1/health", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key%2D1/metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key%2e/metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/a%2Fb/metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/%2e%2e/metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/%/metadata", elsewhere},
		// U5: everything that is no operation.
		{"/", elsewhere},
		{"*", elsewhere},
		{"https://xks.example.com/tenant/one/kms/xks/v1/health", elsewhere},
		{"xks.example.com:443", elsewhere},
		{"/kms/xks/v1", elsewhere},
		{"/tenant/one/kms/xks/v1", elsewhere},
		{"/tenant/one/kms/xks/v1/", elsewhere},
		{"/tenant/one/kms/xks/v1/keys", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key-1", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key-1/sign", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/key-1/metadata/more", elsewhere},
		{"/tenant/one/kms/xks/v1/keys/a/b/metadata", elsewhere},
		{"/tenant/one/kms/xks/v1/metadata", elsewhere},
		{"/tenant/one/kms/xks/v2/health", elsewhere},
		{"/tenant/one/kms/xks/v1/{externalKeyId}/metadata", elsewhere},
		{"/healthz/ready", elsewhere},
		// U5: a query fails the authentication, wherever an operation is; elsewhere it is a path
		// like any other.
		{"/tenant/one/kms/xks/v1/health?a=b", string(authenticationFailed)},
		{"/tenant/one/kms/xks/v1/keys/key-1/metadata?x", string(authenticationFailed)},
		{"/tenant/one/kms/xks/v1/health/?a=b", elsewhere},
		{"/tenant/one/kms/xks/v1/heal?th", elsewhere},
		// U3.
		{keyURI(longest, "metadata"), served},
		{keyURI("ABCxyz019-._", "metadata"), served},
		{keyURI("...", "metadata"), string(keyNotFound)},
		{keyURI(longest+"k", "metadata"), string(keyNotFound)},
		{keyURI(strings.Repeat("k", 4000), "metadata"), string(keyNotFound)},
		{keyURI("a:b", "metadata"), string(keyNotFound)},
		{keyURI("a*", "metadata"), string(keyNotFound)},
		{keyURI("key-1;v=1", "metadata"), string(keyNotFound)},
		{keyURI("{externalKeyId}", "metadata"), string(keyNotFound)},
		{keyURI(`a\b`, "metadata"), string(keyNotFound)},
		{keyURI("a#b", "metadata"), string(keyNotFound)},
		{keyURI("schlüssel", "metadata"), string(keyNotFound)},
		{keyURI("key-1\u00a0", "metadata"), string(keyNotFound)},
		{keyURI(testKey, "metadata"), string(keyNotFound)}, // H2, and "'" is no character of U3
	} {
		body := metadataOnly("CreateKey")
		p := r.send(c.path, body)
		if got := string(p.errorName(t)); got != c.want {
			t.Errorf("%s: %d %s, want %q", c.path, p.status, p.body, c.want)
		}
		if p.header.Get("Location") != "" {
			t.Errorf("%s: redirected", c.path)
		}
	}
}

// U3, A8: an id that cannot be says nothing to a caller who is not authenticated.
func TestKeyIDsAreSecretBeforeAuthentication(t *testing.T) {
	r := newRig(t)
	first := ""
	for _, id := range []string{goodKey, "no-such-key", strings.Repeat("k", MaxKeyID+1), "a:b", "disabled", testKey} {
		for _, operation := range []string{"metadata", "encrypt", "decrypt"} {
			p := r.send(
				keyURI(id, operation), metadataOnly("x"),
				func(q *http.Request) { q.Header.Set("X-Amz-Content-Sha256", "0") },
			)
			p.want(t, authenticationFailed)
			if first == "" {
				first = goldenText(p)
			}
			if goldenText(p) != first {
				t.Errorf("%s %s: %s", operation, id, p.body)
			}
		}
	}
}

// U4, U5: every method at every path.
func TestMethods(t *testing.T) {
	r := newRig(t)
	paths := map[string]bool{ // whether an operation is there
		prefixURI + "/health": true, keyURI(goodKey, "metadata"): true, keyURI(goodKey, "encrypt"): true, keyURI(goodKey, "decrypt"): true,
		keyURI("no-such-key", "decrypt"): true, prefixURI + "/health?a=b": true,
		prefixURI: false, "/": false, "*": false, prefixURI + "/health/": false, "/kms/xks/v1/health": false, prefixURI + "/%68ealth": false,
	}
	for _, method := range []string{
		http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodConnect, http.MethodOptions, http.MethodTrace,
		"post", "Post", "POSTX", "PROPFIND", "QUERY", "X",
	} {
		for path, isOperation := range paths {
			request := httptest.NewRequest(http.MethodPost, "https://xks.example.com/", nil)
			request.Method, request.RequestURI = method, path
			p := r.serve(request)
			status, allow := http.StatusNotFound, ""
			if isOperation {
				status, allow = http.StatusMethodNotAllowed, http.MethodPost
			}
			if p.status != status || p.header.Get("Allow") != allow {
				t.Errorf("%s %s: %d, Allow %q", method, path, p.status, p.header.Get("Allow"))
			}
			if method == http.MethodHead && len(p.body) != 0 {
				t.Errorf("HEAD %s: a body: %s", path, p.body)
			}
		}
	}
}

// U1: what configuration takes as a prefix.
func TestPathPrefix(t *testing.T) {
	for prefix, good := range map[string]bool{
		"": true, "/a": true, "/A-b_c/9": true, "/" + strings.Repeat("a", 128-len(apiPath)-1): true,
		"/" + strings.Repeat("a", 128-len(apiPath)): false,
		"a": false, "/": false, "/a/": false, "//a": false, "/a//b": false, "/a.b": false, "/a%20": false, "/ä": false, "/a b": false, "/a\n": false,
	} {
		if err := CheckPathPrefix(prefix); (err == nil) != good {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}

// U1, A5: two key stores of one handler have nothing in common but the machine.
func TestKeyStoresAreIsolated(t *testing.T) {
	other := sigv4.Credential{
		AccessKeyID:     "ZZZZYYYYXXXXWWWWVVVV",
		SecretAccessKey: "Zm9yIHRlc3RzIG9ubHksIG5vdCBhIHJlYWwgc2VjcmV0ISE=",
	}
	r := newRig(t, func(c *Config, _ *group.Config) {
		first := &c.KeyStores[0]
		first.Labels, first.Regions = []string{"key-*"}, []string{"us-east-1"}
		c.KeyStores = append(c.KeyStores, KeyStoreConfig{
			Name: "store-two", PathPrefix: "/tenant/two", Credentials: []sigv4.Credential{other, testCredential},
			Labels: []string{
				"tenant-two.only",
			}, Label: "tenant-two." + KeyIDPlaceholder, Regions: []string{"eu-west-1"},
		})
	})
	for _, token := range []*hsmtest.Token{r.a, r.b} {
		token.AddKey("tenant-two.only", 1)
	}
	as := func(credential sigv4.Credential, region, path string) reply {
		return r.send(path, metadataOnly("CreateKey"), func(q *http.Request) {
			sign(q, path, encode(t, metadataOnly("CreateKey")), credential, region, time.Now())
		})
	}
	key := func(tenant, id string) string { return "/tenant/" + tenant + apiPath + "/keys/" + id + "/metadata" }
	as(testCredential, "us-east-1", key("one", goodKey)).wantOK(t)
	as(other, "eu-west-1", key("two", "only")).wantOK(t)
	as(testCredential, "eu-west-1", key("two", "only")).wantOK(t)
	// one credential may be listed twice, but …
	for _, c := range []struct {
		name       string
		credential sigv4.Credential
		region     string
		path       string
		want       errorName
	}{
		{"credential of the other", other, "us-east-1", key("one", goodKey), authenticationFailed},
		{"region of the other", testCredential, "eu-west-1", key("one", goodKey), authenticationFailed},
		{"own region at the other", other, "us-east-1", key("two", "only"), authenticationFailed},
		{"key of the other, by label", testCredential, "us-east-1", key("one", "tenant-two.only"), keyNotFound},
		{"key of the other, by id", testCredential, "us-east-1", key("one", "only"), keyNotFound},
		{"key of the first", other, "eu-west-1", key("two", goodKey), keyNotFound},
		{"key of the first, disabled", other, "eu-west-1", key("two", "disabled"), keyNotFound},
	} {
		if got := as(c.credential, c.region, c.path).errorName(t); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	// … a signature for one store does not open another: the path is signed.
	p := r.send(key("two", "only"), metadataOnly("CreateKey"), func(q *http.Request) {
		sign(
			q, key("one", goodKey), encode(t, metadataOnly("CreateKey")), testCredential,
			"eu-west-1", time.Now(),
		)
	})
	p.want(t, authenticationFailed)
}

// H2: the test key is out of reach, whatever the patterns and the template.
func TestTestKeyIsOutOfReach(t *testing.T) {
	for label, template := range map[string]string{"probe-key": KeyIDPlaceholder, "probe-x": "probe-" + KeyIDPlaceholder, "x-probe": KeyIDPlaceholder + "-probe"} {
		id := map[string]string{"probe-key": "probe-key", "probe-x": "x", "x-probe": "x"}[label]
		for _, labels := range [][]string{{"*"}, {label}, {"*", label}} {
			r := newRig(t, func(c *Config, g *group.Config) {
				g.TestKey = label
				for _, m := range g.Members {
					m.Token.(*hsmtest.Token).AddKey(label, 1)
				}
				c.KeyStores[0].Labels, c.KeyStores[0].Label = labels, template
			})
			r.metadata(id).want(t, keyNotFound)
			r.encrypt(id, encryptFields(nil)).want(t, keyNotFound)
		}
	}
}
