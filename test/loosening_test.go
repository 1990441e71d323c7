package test

// Changes that take protection away, in the running program: a file that was cut short may not let
// anybody in by itself, or not unnoticed.

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// looseningProxy serves the first key store under testPolicy, which denies everything to mallory.
// With a mode, reload.loosening is that; it looks at its files every 200 ms.
func looseningProxy(t *testing.T, mode string) (*proxy, string, func(*settings)) {
	t.Helper()
	w := newTestWorld(t)
	file := w.file("cut.cedar")
	writeFile(t, file, strings.Replace(testPolicy, "resource has owner && resource.owner == \"agency-payroll\" && ", "", 1)+
		"\n@id(\"everybody\") permit (principal, action, resource);\n@id(\"again-not-mallory\")\nforbid (principal == User::\""+mallory+"\", action, resource);\n")
	time.Sleep(50 * time.Millisecond) // files that were written just before the start count as changed
	edit := func(s *settings) {
		s.Reload = object{"interval": "200ms"}
		if mode != "" {
			s.Reload["loosening"] = mode
		}
		s.KeyStores[0]["policy"] = object{"files": []string{file}}
	}
	return w.start(t, edit), file, edit
}

// withoutForbids is the file cut after two thirds: what is left is good, and permits everybody.
func withoutForbids(t *testing.T, file string) (string, string) {
	t.Helper()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(whole), "@id(\"not-mallory\")", "@id(\"again-not-mallory\")")
	start := strings.Index(text, "@id(\"again-not-mallory\")")
	everybody := "@id(\"everybody\") permit (principal, action, resource);\n"
	return string(whole), string(whole)[:start] + everybody
}

func (p *proxy) asMallory(t *testing.T, want int) {
	t.Helper()
	r := p.client(t, http1).post(t, encryptURI("key-1"), as(mallory, encryptBody([]byte("x"), nil)))
	if r.status != want {
		t.Fatalf("mallory: %d %s, want %d; log:\n%s", r.status, r.body, want, p.log.tail(10))
	}
}

// looseningStatus is what `status --json` has of it.
type looseningStatus struct {
	Attention []struct{ Text string }
	Reload    struct {
		Loosening struct {
			Loosens, Refused []struct{ Setting, Key, What string }
			Accepted         bool
			RefusedDigest    string
		}
	}
}

func (p *proxy) loosening(t *testing.T) looseningStatus {
	t.Helper()
	stdout, stderr, _ := command(t, "status", "--json", "--socket", p.file+".sock")
	var s looseningStatus
	err := json.Unmarshal([]byte(stdout), &s)
	if err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	return s
}

const loosenedMetric = `xks_proxy_config_loosened_total{accepted="%t",setting="key_stores.policy.files"}`

// With confirm, what was refused stays refused for every caller of the reload, until an operator accepts
// exactly that.
func TestLooseningIsConfirmed(t *testing.T) {
	t.Parallel()
	p, file, edit := looseningProxy(t, "confirm")
	p.asMallory(t, 403)
	for _, accepted := range []bool{false, true} {
		if got := p.metric(t, fmt.Sprintf(loosenedMetric, accepted)); got != "0" {
			t.Errorf("at the start the metric is %q", got)
		}
	}
	whole, cut := withoutForbids(t, file)
	replaceFile(t, file, cut)
	line := p.log.wait(t, 10*time.Second, p.Exited(), func(line string) bool { return strings.Contains(line, "was not reloaded") })
	for _, part := range []string{"reload.loosening is confirm", `the forbid \"not-mallory\" (cut.cedar:9) is gone`, "xks-proxy reload --accept-loosening="} {
		if !strings.Contains(line, part) {
			t.Errorf("the log says %s, not %q", line, part)
		}
	}
	p.asMallory(t, 403)
	for name, again := range map[string]func(){
		"SIGHUP":  func() { _ = p.Signal(syscall.SIGHUP) },
		"command": func() { p.reloadFails(t, "again-not-mallory", "Nothing was changed", "--accept-loosening=") },
	} {
		mark := p.log.mark()
		again()
		eventually(t, 10*time.Second, func() error {
			if strings.Contains(strings.Join(p.log.since(mark), "\n"), "was not reloaded") {
				return nil
			}
			return fmt.Errorf("%s: no reload was refused", name)
		})
		p.asMallory(t, 403)
	}
	s := p.loosening(t)
	digest := s.Reload.Loosening.RefusedDigest
	if len(s.Reload.Loosening.Refused) == 0 || len(s.Attention) == 0 || !strings.Contains(s.Attention[0].Text, "--accept-loosening="+digest) {
		t.Errorf("status: %+v", s)
	}
	if got := p.metric(t, "xks_proxy_config_loosening_refused"); got != "1" {
		t.Errorf("xks_proxy_config_loosening_refused is %q", got)
	}
	stdout, _, code := command(t, "config", "diff", "--socket", p.file+".sock")
	if code != 1 || !strings.Contains(stdout, "Loosens") || !strings.Contains(stdout, digest) {
		t.Errorf("config diff: exit code %d: %s", code, stdout)
	}
	t.Logf("config diff:\n%s", stdout)

	// What is accepted is what was shown. The file that is whole again needs nobody.
	replaceFile(t, file, cut+"\n@id(\"more\") permit (principal, action, resource) when { true };\n")
	_, stderr, code := command(t, "reload", "--accept-loosening="+digest, "--socket", p.file+".sock")
	if code != 1 || !strings.Contains(stderr, "the files have changed since") {
		t.Errorf("another file: exit code %d: %s", code, stderr)
	}
	p.asMallory(t, 403)
	replaceFile(t, file, whole)
	eventually(t, 10*time.Second, func() error {
		if got := p.metric(t, "xks_proxy_config_loosening_refused"); got != "0" {
			return fmt.Errorf("the file is whole, and xks_proxy_config_loosening_refused is %s", got)
		}
		return nil
	})
	p.asMallory(t, 403)

	// Meant after all: the mode itself and the policy, at once.
	p.configure(t, func(s *settings) { edit(s); s.Reload = object{"interval": "0s"}; delete(s.KeyStores[0], "policy") })
	stdout, _, _ = command(t, "config", "diff", "--json", "--socket", p.file+".sock")
	var shown struct {
		LoosensDigest  string
		MustBeAccepted bool
	}
	err := json.Unmarshal([]byte(stdout), &shown)
	if err != nil || !shown.MustBeAccepted || shown.LoosensDigest == "" {
		t.Fatalf("%v: %s", err, stdout)
	}
	stdout, stderr, code = command(t, "reload", "--accept-loosening="+shown.LoosensDigest, "--socket", p.file+".sock")
	if code != 0 || !strings.Contains(stdout, "reload.loosening: was confirm and is warn") || !strings.Contains(stdout, "there is no policy any more") {
		t.Errorf("accepted: exit code %d: %s%s", code, stdout, stderr)
	}
	p.asMallory(t, 200)
	if got := p.metric(t, fmt.Sprintf(loosenedMetric, true)); got != "1" {
		t.Errorf("the metric is %q", got)
	}
}

// With warn it is taken, and nobody can miss it.
func TestLooseningIsWarnedOf(t *testing.T) {
	t.Parallel()
	p, file, _ := looseningProxy(t, "")
	p.asMallory(t, 403)
	whole, cut := withoutForbids(t, file)
	replaceFile(t, file, cut)
	line := p.log.wait(t, 10*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, "may let in what was refused before") && strings.Contains(line, "again-not-mallory")
	})
	for _, part := range []string{`"level":"warn"`, `"accepted":false`, `"key":"key_stores[main].policy.files"`, `"by":"a change of `} {
		if !strings.Contains(line, part) {
			t.Errorf("the log says %s, not %q", line, part)
		}
	}
	p.asMallory(t, 200)
	s := p.loosening(t)
	loosens := s.Reload.Loosening.Loosens
	if len(loosens) != 3 || loosens[0].Setting != "key_stores.policy.files" || len(s.Attention) == 0 || !strings.Contains(s.Attention[0].Text, "not-mallory") {
		t.Errorf("status: %+v", s)
	}
	if got := p.metric(t, fmt.Sprintf(loosenedMetric, false)); got != "3" {
		t.Errorf("the metric is %q", got)
	}
	text, _, code := command(t, "status", "--socket", p.file+".sock")
	if code != 3 { // a warning
		t.Errorf("status: exit code %d:\n%s", code, text)
	}
	t.Logf("status:\n%s", text)

	// An operator who says that it was meant is not reminded any more.
	stdout, stderr, code := command(t, "reload", "--accept-loosening", "--socket", p.file+".sock")
	if code != 0 {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if s := p.loosening(t); !s.Reload.Loosening.Accepted || strings.Contains(fmt.Sprint(s.Attention), "mallory") {
		t.Errorf("status: %+v", s)
	}
	text, _, _ = command(t, "status", "--socket", p.file+".sock")
	if !strings.Contains(text, "  Loosens        3 changes, ") {
		t.Errorf("status:\n%s", text)
	}
	replaceFile(t, file, whole)
	eventually(t, 10*time.Second, func() error {
		r := p.client(t, http1).post(t, encryptURI("key-1"), as(mallory, encryptBody([]byte("x"), nil)))
		if r.status != 403 {
			return fmt.Errorf("mallory: %d", r.status)
		}
		return nil
	})
}

// A tenant's file, cut wherever it is a good one still, at any line: by itself it lets nobody in,
// and whole again it serves as before.
func TestCutTenantIsConfirmed(t *testing.T) {
	t.Parallel()
	n := tenant{file: "payroll", owner: "finance", application: "payroll", group: "main"}
	w := newTestWorld(t, newKey(n.key(), 1))
	tenants := []tenant{n}
	w.writeTenants(t, tenants)
	n = tenants[0]
	writeFile(t, w.file("tenant.cedar"), testPolicy)
	whole := n.text() + "name: payroll\nregions: [us-east-1]\nquota: {requests_per_second: 1000}\npolicy:\n  files:\n    - ../tenant.cedar\n  mode: enforce\n"
	writeFile(t, w.tenantFile(n), whole)
	p := w.start(t, func(s *settings) {
		s.KeyStores, s.Reload = nil, object{"interval": "0s", "loosening": "confirm"}
	})
	c := p.client(t, http1).at(n.prefix()).as(n.credential)
	denied := func(what string) {
		t.Helper()
		r := c.post(t, encryptURI(n.key()), as(mallory, encryptBody([]byte("x"), nil)))
		if r.status != 403 {
			t.Fatalf("%s: mallory has %d %s; log:\n%s", what, r.status, r.body, p.log.tail(5))
		}
	}
	denied("before")
	refused := 0
	for end, letter := range whole {
		if letter != '\n' || end+1 == len(whole) {
			continue
		}
		replaceFile(t, w.tenantFile(n), whole[:end+1])
		_, stderr, code := command(t, "reload", "--socket", p.file+".sock")
		switch {
		case code == 0 && whole[end+1:] != "  mode: enforce\n": // the default
			t.Errorf("cut after %d bytes, it was reloaded", end)
		case strings.Contains(stderr, "reload.loosening is confirm"):
			refused++
		}
		denied(fmt.Sprintf("cut after %d bytes", end))
	}
	if refused < 3 {
		t.Errorf("%d were refused because they loosen", refused)
	}
	replaceFile(t, w.tenantFile(n), whole)
	p.reload(t)
	denied("whole again")
}
