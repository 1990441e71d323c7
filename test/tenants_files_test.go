package test

// A tenant's file, from its copy to its end, on the running program: the next agency is set up by copying a file,
// and nobody else notices. What a file says holds for its own key store only.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/pkcs11"
)

// startFiles serves key stores of the directory only, each with a key of its own, and looks at their files often.
func startFiles(t *testing.T, tenants []tenant, more func(*world)) *proxy {
	t.Helper()
	var keys []pkcs11.NewKey
	for i := range tenants {
		keys = append(keys, newKey(tenants[i].key(), 1))
	}
	w := newTestWorld(t, keys...)
	w.writeTenants(t, tenants)
	if more != nil {
		more(w)
	}
	return w.start(t, func(s *settings) { s.KeyStores, s.Reload = nil, object{"interval": "100ms"} })
}

func (w *world) tenantFile(n tenant) string {
	return filepath.Join(w.Dir, "key_stores.d", n.file+".yaml")
}

// asked is an Encrypt by a tenant in its own key store.
func (n tenant) asked(t testing.TB, c *client) *reply {
	t.Helper()
	return c.at(n.prefix()).as(n.credential).post(t, encryptURI(n.key()), encryptBody([]byte(n.file), nil))
}

func TestNextTenantByCopy(t *testing.T) {
	t.Parallel()
	tenants := []tenant{
		{file: "payroll", owner: "finance", application: "payroll", group: "main"},
		{file: "records", owner: "health", application: "records", group: "main"},
	}
	first, next := &tenants[0], &tenants[1]
	p := startFiles(t, tenants, func(w *world) {
		err := os.Remove(w.tenantFile(*next)) // its key and its secret are there
		if err != nil {
			t.Fatal(err)
		}
	})
	c := p.client(t, http1)
	next.asked(t, c).wantError(t, 404, "InvalidUriPathException")

	// The copy as it is: refused, with both places, and nothing changes.
	writeFile(t, p.world.tenantFile(*next), first.text())
	p.reloadFails(t, "records.yaml:4:", "payroll.yaml:4:")
	first.asked(t, c).wantOK(t, new(sealed))
	next.asked(t, c).wantError(t, 404, "InvalidUriPathException")

	// With its three lines changed the proxy serves it, here because it looks at the files.
	replaceFile(t, p.world.tenantFile(*next), next.text())
	eventually(t, startLimit, func() error {
		if r := next.asked(t, c); r.status != 200 {
			return fmt.Errorf("%d %s; log:\n%s", r.status, r.body, p.log.tail(5))
		}
		return nil
	})
	first.asked(t, c).wantOK(t, new(sealed))

	// Its end.
	err := os.Remove(p.world.tenantFile(*next))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, func() error {
		if r := next.asked(t, c); r.status != 404 {
			return fmt.Errorf("%d %s; log:\n%s", r.status, r.body, p.log.tail(5))
		}
		return nil
	})
	first.asked(t, c).wantOK(t, new(sealed))
}

// Quota, policy, block and host name of a file are those of its key store, and what becomes of its requests is in its own figures.
func TestFilesDoNotCross(t *testing.T) {
	t.Parallel()
	tenants := []tenant{
		{file: "plain", owner: "agency-a", application: "app", group: "main"},
		{file: "throttled", owner: "agency-b", application: "app", group: "main"},
		{file: "denied", owner: "agency-c", application: "app", group: "main"},
		{file: "stopped", owner: "agency-d", application: "app", group: "main"},
		{file: "named", owner: "agency-e", application: "app", group: "main"},
	}
	p := startFiles(t, tenants, func(w *world) {
		policy := filepath.Join(w.Dir, "key_stores.d", "denied.cedar")
		writeFile(t, policy, "@id(\"nobody\")\npermit (principal in Account::\"999999999999\", action, resource);\n")
		for i, more := range []string{"", "quota: {requests_per_second: 1, burst: 1}\n", "policy: {files: [\"{name}.cedar\"]}\n", "blocked: true\n", "hosts: [named.example.com]\n"} {
			writeFile(t, w.tenantFile(tenants[i]), tenants[i].text()+more)
		}
	})
	c := p.client(t, http2)
	for range 5 { // whatever happened to the others just before
		for i, want := range []struct {
			status int
			name   string
		}{{200, ""}, {429, "ThrottlingException"}, {403, "AccessDeniedException"}, {400, "InvalidStateException"}, {404, "InvalidUriPathException"}} {
			r := tenants[i].asked(t, c)
			for i == 1 && r.status == 200 {
				r = tenants[i].asked(t, c) // until the quota is used up
			}
			if want.status == 200 {
				r.wantOK(t, new(sealed))
				continue
			}
			r.wantError(t, want.status, want.name)
		}
	}
	eventually(t, startLimit, func() error { // the log is written now and then
		lines := 0
		for _, line := range p.log.all() {
			own := slices.IndexFunc(tenants, func(n tenant) bool { return strings.Contains(line, `"key_store":"`+n.file+`"`) })
			if own < 0 || !strings.Contains(line, `"msg":"request"`) {
				continue
			}
			lines++
			for i, other := range tenants {
				if i != own && (strings.Contains(line, other.file) || strings.Contains(line, other.owner)) {
					t.Fatalf("a log line of %s tells of %s: %s", tenants[own].file, other.file, line)
				}
			}
		}
		if lines < 20 {
			return fmt.Errorf("%d lines of the log are about requests", lines)
		}
		return nil
	})
	named := c.at(tenants[4].prefix()).as(tenants[4].credential)
	k := named.call(encryptURI(tenants[4].key()), encode(encryptBody([]byte("x"), nil)))
	k.host = "named.example.com"
	named.mustDo(t, k).wantOK(t, new(sealed))
	_, metrics := p.get(t, p.client(t, http1), "http://"+p.Health+"/metrics")
	for _, line := range []string{
		`xks_proxy_requests_total{key_store="plain",operation="Encrypt",outcome="ok"} 5`,
		`xks_proxy_requests_total{key_store="denied",operation="Encrypt",outcome="AccessDeniedException"} 5`,
		`xks_proxy_key_store_blocked{key_store="stopped"} 1`,
		`xks_proxy_key_store_blocked{key_store="plain"} 0`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("the metrics lack %s", line)
		}
	}
}

// A policy file that changes is in use without a restart (item 5); one that is wrong changes nothing.
func TestPolicyIsReloaded(t *testing.T) {
	t.Parallel()
	n := []tenant{{file: "ruled", owner: "agency", application: "app", group: "main"}}
	policy := ""
	p := startFiles(t, n, func(w *world) {
		policy = filepath.Join(w.Dir, "key_stores.d", "ruled.cedar")
		writeFile(t, policy, "permit (principal, action, resource);\n")
		writeFile(t, w.tenantFile(n[0]), n[0].text()+"policy: {files: [\"{name}.cedar\"]}\n")
	})
	c := p.client(t, http1)
	n[0].asked(t, c).wantOK(t, new(sealed))
	for _, change := range []struct {
		text   string
		status int
	}{
		{"@id(\"not-alice\")\nforbid (principal == User::\"" + alice + "\", action, resource);\npermit (principal, action, resource);\n", 403},
		{"permit (principal, action, resource);\n", 200},
	} {
		replaceFile(t, policy, change.text)
		eventually(t, startLimit, func() error {
			if r := n[0].asked(t, c); r.status != change.status {
				return fmt.Errorf("%d, want %d; log:\n%s", r.status, change.status, p.log.tail(5))
			}
			return nil
		})
	}
	replaceFile(t, policy, "forbid (principal, action, resource)\n") // a semicolon is missing
	p.log.wait(t, 20*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, "the old one stays in use") && strings.Contains(line, "ruled.cedar")
	})
	n[0].asked(t, c).wantOK(t, new(sealed))
}
