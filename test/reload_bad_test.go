package test

// Bad configurations leave the old one in use, whatever is bad about them: nothing is half applied, the operator is told
// where, and monitoring knows.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

func TestBadReloads(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	policy := w.file("reload.cedar")
	good := func(s *settings) {
		byHand(s)
		s.KeyStores[0]["policy"] = object{"files": []string{policy}}
	}
	writeFile(t, policy, "permit (principal, action, resource);\n")
	p := w.start(t, good)
	c := p.client(t, http1)
	workers := p.workers()
	change := func(edit func(*settings)) func() {
		return func() { p.configure(t, func(s *settings) { good(s); edit(s) }) }
	}
	wrongPIN := w.file("wrong-pin")
	writeFile(t, wrongPIN, "not-the-pin\n")
	writeFile(t, w.file("short"), "short\n")
	writeFile(t, w.file("no-module.so"), "no ELF\n")
	name := filepath.Base(p.file)
	failures := 0
	for _, bad := range []struct {
		name string
		do   func()
		undo func()
		says []string
	}{
		{"no YAML", func() { replaceFile(t, p.file, "server: [\n") }, nil, []string{name + ":"}},
		{"an unknown key", change(func(s *settings) { s.Server["lissen"] = "x" }), nil, []string{name + ":", "server.lissen: unknown key; did you mean \"listen\"?"}},
		{"a file that is gone", func() { _ = os.Remove(p.file) }, nil, []string{name, "does not exist"}},
		{"a group that is not there", change(func(s *settings) { s.KeyStores[1]["hsm_group"] = "none" }), nil, []string{name + ":", "key_stores[1].hsm_group: there is no HSM group"}},
		{"a secret that is not there", change(func(s *settings) {
			s.KeyStores[1]["credentials"] = []object{{"access_key_id": w.Other.AccessKeyID, "secret_access_key": object{"file": w.file("nowhere")}}}
		}), nil, []string{name + ":", "nowhere does not exist"}},
		{"a secret that is none", change(func(s *settings) {
			s.KeyStores[1]["credentials"] = []object{{"access_key_id": w.Other.AccessKeyID, "secret_access_key": object{"file": w.file("short")}}}
		}), nil, []string{name + ":", "key_stores[1].credentials[0].secret_access_key"}},
		{"a secret that others can read", func() { p.configure(t, good); chmod(t, w.file(w.Other.AccessKeyID), 0o644) }, func() { chmod(t, w.file(w.Other.AccessKeyID), 0o600) }, []string{"is open to others", "chmod 600"}},
		{"a policy that is none", func() {
			p.configure(t, good)
			replaceFile(t, policy, "permit (principal, action, resource);\npermit (\n")
		},
			func() { replaceFile(t, policy, "permit (principal, action, resource);\n") }, []string{"reload.cedar:"}},
		{"a policy for a key store that is not there", func() {
			p.configure(t, good)
			replaceFile(t, policy, `permit (principal, action, resource in KeyStore::"mian");`)
		}, func() { replaceFile(t, policy, "permit (principal, action, resource);\n") },
			[]string{"reload.cedar:1:50:", `there is no key store "mian" in the configuration (did you mean main?)`}},
		{"policies that permit nothing", func() {
			p.configure(t, good)
			replaceFile(t, policy, "forbid (principal, action, resource);\n")
		}, func() { replaceFile(t, policy, "permit (principal, action, resource);\n") },
			[]string{"nothing can be permitted", "blocked: true"}},
		{"policies of which each decision takes long", func() {
			p.configure(t, good)
			replaceFile(t, policy, strings.Repeat(`permit (principal, action == Action::"Decrypt", resource) when { context.kmsKeyArn like "*`+
				strings.Repeat("a", 2000)+`b*" };`+"\n", 100))
		}, func() { replaceFile(t, policy, "permit (principal, action, resource);\n") },
			[]string{"reload.cedar:1:1:", "steps, and 5,000,000 are allowed"}},
		{"no certificate", change(func(s *settings) { s.Server["tls"].(object)["certificate"] = w.file("none.crt") }), nil, []string{name + ":", "server.tls.certificate: ", "none.crt does not exist"}},
		{"a certificate of another key", change(func(s *settings) { s.Server["tls"].(object)["key"] = otherKey(t, w) }), nil, []string{"server.crt"}},
		{"a module that is none", change(func(s *settings) { s.HSMs[1]["module"] = w.file("no-module.so") }), nil, []string{"the HSM hsm-b works with its old settings and not with the new ones: ", "no-module.so"}},
		{"a token that is not there", change(func(s *settings) { s.HSMs[1]["token"] = "none" }), nil, []string{"hsm-b", "no such token"}},
		{"another serial number", change(func(s *settings) { s.HSMs[1]["serial"] = "00000000" }), nil, []string{"hsm-b", "no such token"}},
		{"a PIN that is refused", change(func(s *settings) { s.HSMs[1]["pin"] = object{"file": wrongPIN} }), nil, []string{"hsm-b", "refused the PIN", "correct the PIN and reload again"}},
		{"a new HSM that cannot be used", change(func(s *settings) {
			extra := w.B.settings()
			extra["name"], extra["token"] = "hsm-c", "none"
			s.HSMs = append(s.HSMs, extra)
		}), nil, []string{"an HSM that is new or changed cannot be used: hsm-c"}},
	} {
		mark := p.log.mark()
		bad.do()
		p.reloadFails(t, bad.says...)
		failures++
		if got := p.metric(t, "xks_proxy_config_last_reload_success"); got != "0" {
			t.Errorf("%s: last_reload_success is %q", bad.name, got)
		}
		if got := p.metric(t, `xks_proxy_config_reloads_total{result="failure"}`); got != itoa(failures) {
			t.Errorf("%s: %q failures, want %d", bad.name, got, failures)
		}
		if got := p.metric(t, "xks_proxy_config_generation"); got != "1" {
			t.Errorf("%s: generation %q is in use", bad.name, got)
		}
		eventually(t, 5*time.Second, func() error {
			if lines := strings.Join(p.log.since(mark), "\n"); !strings.Contains(lines, "the old one stays in use") {
				return fmt.Errorf("%s: the log says nothing: %s", bad.name, lines)
			}
			return nil
		})
		stdout, _, _ := command(t, "status", "--config", p.file)
		words := strings.Join(strings.Fields(stdout), " ")
		if strings.Contains(bad.name, "polic") && !strings.Contains(words, bad.says[len(bad.says)-1]) {
			t.Errorf("%s: status says\n%s", bad.name, stdout)
		}
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		c.at(otherPrefix).as(w.Other).post(t, healthURI, healthBody()).wantOK(t, new(object))
		if bad.undo != nil {
			bad.undo()
		}
	}
	if now := p.workers(); len(now) != 2 || now[0] != workers[0] || now[1] != workers[1] {
		t.Errorf("the processes were %v and are %v", workers, now)
	}
	p.configure(t, good)
	if r := p.reload(t); r.Generation != 2 || len(r.Changes) != 0 {
		t.Errorf("%+v", r)
	}
	if got := p.metric(t, "xks_proxy_config_last_reload_success"); got != "1" {
		t.Errorf("last_reload_success is %q after one that succeeded", got)
	}
	p.wantHealthy(t)
}

// A PIN that an HSM has refused reaches it once, however often the reload is tried; a corrected one is taken.
func TestReloadTriesAPINOnce(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	var controls []*faulty.Control
	var hsms []object
	misbehaving := func(s *settings) {
		byHand(s)
		if hsms == nil {
			controls = s.misbehave(t)
			hsms = s.HSMs
		}
		s.HSMs = hsms
	}
	p := w.start(t, misbehaving)
	before := controls[1].Calls("C_Login")
	replaceFile(t, w.B.pinFile(), "not-the-pin\n")
	for range 3 {
		p.reloadFails(t, "hsm-b", "correct the PIN and reload again")
	}
	if got := controls[1].Calls("C_Login") - before; got != 1 {
		t.Errorf("the wrong PIN was tried %d times", got)
	}
	replaceFile(t, w.B.pinFile(), w.B.PIN+"\n")
	p.reload(t)
	p.wantHealthy(t)
}

// A bad file is reported once, not at every look, and again when it has changed.
func TestBadFileIsReportedOnce(t *testing.T) {
	t.Parallel()
	p := newTestWorld(t).start(t, func(s *settings) { s.Reload = object{"interval": "100ms"} })
	failures := func() string { return p.metric(t, `xks_proxy_config_reloads_total{result="failure"}`) }
	for n := 1; n <= 2; n++ {
		replaceFile(t, p.file, strings.Repeat("# \n", n)+"server: [\n")
		eventually(t, 20*time.Second, func() error {
			if got := failures(); got != itoa(n) {
				return fmt.Errorf("%s failures, want %d", got, n)
			}
			return nil
		})
		time.Sleep(time.Second)
		if got := failures(); got != itoa(n) {
			t.Errorf("one bad file and %s failures", got)
		}
	}
	p.configure(t, func(*settings) {})
	p.waitGeneration(t, 2)
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	t.Helper()
	err := os.Chmod(path, mode)
	if err != nil {
		t.Fatal(err)
	}
}

// otherKey is a private key that no certificate of the world has.
func otherKey(t testing.TB, w *world) string {
	t.Helper()
	dir := w.file("other-certificates")
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	newCertificates(t, dir)
	return filepath.Join(dir, "server.key")
}
