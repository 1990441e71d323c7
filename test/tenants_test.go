package test

// Tenants (requirements U1, A5): key stores of a directory, each made by copying a file. Every path is tried with every
// credential and every key; only where all three are of one key store is there an answer.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/sigv4"
)

// tenant is one file of the directory.
type tenant struct {
	file, owner, application, group string
	credential                      sigv4.Credential
}

func (n tenant) prefix() string { return "/" + n.owner + "/" + n.application }

// key is the external key id and the label of its key.
func (n tenant) key() string { return n.owner + "-" + n.application + "-test" }

// text is the file: what differs between tenants is in its first lines.
func (n tenant) text() string {
	return fmt.Sprintf("owner: %s\napplication: %s\nhsm_group: %s\n", n.owner, n.application, n.group) +
		fmt.Sprintf("credentials: [{access_key_id: %s, secret_access_key: {file: \"secrets/{name}.key\"}}]\n", n.credential.AccessKeyID) +
		"environment: test\npath_prefix: /{owner}/{application}\n" +
		"keys: {labels: [\"{owner}-{application}-{environment}\", \"{owner}-{application}-{environment}-*\"]}\n"
}

// startTenants serves four key stores, of two owners in two HSM groups, and none of the main file.
func startTenants(t *testing.T) (*proxy, []tenant) {
	t.Helper()
	tenants := []tenant{
		{file: "alpha", owner: "finance", application: "payroll", group: "main"},
		{file: "bravo", owner: "finance", application: "tax", group: "second"},
		{file: "charlie", owner: "health", application: "records", group: "main"},
		{file: "delta", owner: "health", application: "records-archive", group: "second"},
	}
	keys := make([]pkcs11.NewKey, 0, len(tenants))
	for _, n := range tenants {
		keys = append(keys, newKey(n.key(), 1))
	}
	w := newTestWorld(t, keys...)
	w.writeTenants(t, tenants)
	p := w.start(t, func(s *settings) {
		s.KeyStores = nil
		s.Second = object{"name": "second", "test_key": testKey, "probe_interval": "1s", "catalogue_interval": "1s", "attempt_timeout": "5s", "hedge_after": "4s",
			"hsms": []object{{"hsm": w.B.Label}, {"hsm": w.A.Label}}}
	})
	return p, tenants
}

// writeTenants makes their credentials and the directory of their files.
func (w *world) writeTenants(t testing.TB, tenants []tenant) {
	t.Helper()
	directory := filepath.Join(w.Dir, "key_stores.d")
	err := os.MkdirAll(filepath.Join(directory, "secrets"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	for i := range tenants {
		n := &tenants[i]
		n.credential, err = sigv4.GenerateCredential()
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(directory, "secrets", n.file+".key"), n.credential.SecretAccessKey+"\n")
		writeFile(t, filepath.Join(directory, n.file+".yaml"), n.text())
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	p, tenants := startTenants(t)
	c := p.client(t, http2)
	answers := map[string]*sealed{} // by key
	for _, n := range tenants {
		answers[n.key()] = c.at(n.prefix()).as(n.credential).encrypt(t, n.key(), encryptBody([]byte(n.file), nil))
	}
	good := 0
	lines := map[tenant][]*reply{} // looked at in the end: the log is written now and then
	for _, path := range tenants {
		for _, credential := range tenants {
			for _, key := range tenants {
				asked := c.at(path.prefix()).as(credential.credential)
				for uri, body := range map[string]object{
					encryptURI(key.key()):  encryptBody([]byte("x"), nil),
					decryptURI(key.key()):  decryptBody(answers[key.key()], nil),
					metadataURI(key.key()): keyMetadataBody(),
				} {
					r := asked.post(t, uri, body)
					switch {
					case path != credential:
						r.wantError(t, 401, "AuthenticationFailedException")
					case path != key:
						r.wantError(t, 404, "KeyNotFoundException")
					default:
						good++
						if r.status != 200 {
							t.Errorf("%s of its own key store: %d %s", uri, r.status, r.body)
						}
					}
					lines[path] = append(lines[path], r)
				}
			}
		}
	}
	for path, replies := range lines {
		for _, r := range replies {
			wantOwnLine(t, r, path, tenants)
		}
	}
	if good != 3*len(tenants) {
		t.Errorf("%d good requests", good)
	}
	for _, n := range tenants {
		if got := c.at(n.prefix()).as(n.credential).decrypt(t, n.key(), answers[n.key()], nil); string(got) != n.file {
			t.Errorf("%s decrypts to %q", n.key(), got)
		}
	}
	// No path, prefix of a path, or mixture of two is a key store.
	for _, path := range []string{"", "/finance", "/payroll", "/finance/records", "/Finance/payroll", "/finance//payroll", "/finance/payroll/", "/health/records/archive"} {
		c.at(path).as(tenants[0].credential).post(t, encryptURI(tenants[0].key()), encryptBody(nil, nil)).wantError(t, 404, "InvalidUriPathException")
	}
}

// wantOwnLine expects that the log line of a request names the key store that it was sent to, and no other.
func wantOwnLine(t *testing.T, r *reply, own tenant, tenants []tenant) {
	t.Helper()
	line := r.line()
	if !strings.Contains(line, `"key_store":"`+own.file+`"`) {
		t.Errorf("the log line does not name its key store %s: %s", own.file, line)
	}
	for _, n := range tenants {
		if n.file != own.file && strings.Contains(line, n.file) || strings.Contains(line, n.credential.SecretAccessKey) {
			t.Errorf("the log line of a request of %s tells of %s: %s", own.file, n.file, line)
		}
	}
}
