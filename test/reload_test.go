package test

// Reloads of the running program: what makes it reload, what comes into force, and what a bad
// configuration leaves as it was.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/status"
)

// byHand keeps the program from looking at files itself.
func byHand(s *settings) { s.Reload = object{"interval": "0s"} }

// configure puts another configuration in the place of the proxy's, at once.
func (p *proxy) configure(t testing.TB, edit func(*settings)) {
	t.Helper()
	s := p.world.settings()
	s.Admin["socket"] = p.file + ".sock"
	edit(s)
	replaceFile(t, p.file, s.text(t))
}

// replaceFile leaves no moment at which the file is half.
func replaceFile(t testing.TB, path, text string) {
	t.Helper()
	writeFile(t, path+".new", text)
	err := os.Rename(path+".new", path)
	if err != nil {
		t.Fatal(err)
	}
}

// reloaded is what `reload --json` and `config diff --json` print.
type reloaded struct {
	Generation      int
	Changes         []struct{ Key, Old, New, Kind string }
	WaitsForRestart []string
	Warnings        []string
}

// reload runs the command, which must succeed.
func (p *proxy) reload(t testing.TB) reloaded {
	t.Helper()
	stdout, stderr, code := command(t, "reload", "--json", "--config", p.file)
	var r reloaded
	err := json.Unmarshal([]byte(stdout), &r)
	if code != 0 || err != nil {
		t.Fatalf("reload: exit code %d: %v: %s%s; log:\n%s", code, err, stdout, stderr, p.log.tail(10))
	}
	return r
}

// reloadFails runs the command, which must not succeed and name all of this.
func (p *proxy) reloadFails(t testing.TB, says ...string) {
	t.Helper()
	stdout, stderr, code := command(t, "reload", "--socket", p.file+".sock")
	if code != 1 || stdout != "" {
		t.Fatalf("reload: exit code %d: %s%s", code, stdout, stderr)
	}
	for _, part := range says {
		if !strings.Contains(stderr, part) {
			t.Errorf("reload says\n%swant %q", stderr, part)
		}
	}
}

// metric is the value of one line of /metrics, "" if it is not there.
func (p *proxy) metric(t testing.TB, name string) string {
	t.Helper()
	status, body := p.get(t, p.client(t, http1), "http://"+p.Health+"/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d", status)
	}
	for line := range strings.Lines(body) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (p *proxy) waitGeneration(t testing.TB, generation int) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		if got := p.metric(t, "xks_proxy_config_generation"); got != itoa(generation) {
			return fmt.Errorf("generation %s is in use, want %d; log:\n%s", got, generation, p.log.tail(5))
		}
		return nil
	})
}

// Whatever makes it reload: a credential that was added opens, and one that was removed does not.
func TestReloadTriggers(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	time.Sleep(50 * time.Millisecond) // files that were written just before the start count as changed
	p := w.start(t, func(s *settings) { s.Reload = object{"interval": "200ms"} })
	c := p.client(t, http1)
	withSecond := func(on bool) func(*settings) {
		return func(s *settings) {
			s.Reload = object{"interval": "200ms"}
			if !on {
				s.KeyStores[0]["credentials"] = s.KeyStores[0]["credentials"].([]object)[:1]
			}
		}
	}
	on := true
	check := func(what string) {
		t.Helper()
		r := c.as(w.Second).post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil))
		want := map[bool]int{true: http.StatusOK, false: http.StatusUnauthorized}[on]
		if r.status != want {
			t.Fatalf("%s: %d %s, want %d", what, r.status, r.body, want)
		}
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil)) // the other credential opens throughout
	}
	check("before")
	for generation, trigger := range []struct {
		name string
		do   func()
	}{
		{"a file that is replaced", func() { p.configure(t, withSecond(on)) }},
		{"a file that is written over", func() {
			s := w.settings()
			s.Admin["socket"] = p.file + ".sock"
			withSecond(on)(s)
			writeFile(t, p.file, s.text(t))
		}},
		{"a symbolic link that is turned", func() { p.configureByLink(t, withSecond(on)) }},
		{"another directory behind the link", func() { p.configureByLink(t, withSecond(on)) }},
	} {
		on = !on
		trigger.do()
		p.waitGeneration(t, generation+2)
		check(trigger.name)
		line := p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
			return strings.Contains(line, "was reloaded") && strings.Contains(line, fmt.Sprintf(`"generation":%d`, generation+2))
		})
		if !strings.Contains(line, `"by":"a change of `+p.file+`"`) {
			t.Errorf("%s: the line of the log is %s", trigger.name, line)
		}
	}
	// A secret file alone. The secret of the second credential becomes another.
	was := w.Second.SecretAccessKey
	w.Second.SecretAccessKey = text(43)
	replaceFile(t, w.file(w.Second.AccessKeyID), w.Second.SecretAccessKey+"\n")
	p.waitGeneration(t, 6)
	check("a secret that was rotated")
	w.Second.SecretAccessKey, on = was, false
	check("the secret before")
}

// configureByLink is what Kubernetes does: the file is reached through a link to a directory, which is turned to another one.
func (p *proxy) configureByLink(t testing.TB, edit func(*settings)) {
	t.Helper()
	dir, err := os.MkdirTemp(p.world.Dir, "data-")
	if err != nil {
		t.Fatal(err)
	}
	s := p.world.settings()
	s.Admin["socket"] = p.file + ".sock"
	edit(s)
	writeFile(t, filepath.Join(dir, "config"), s.text(t))
	data, link := p.world.file("..data"), p.file+".link"
	_ = os.Remove(data + ".new")
	for _, step := range []error{os.Symlink(dir, data+".new"), os.Rename(data+".new", data)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	_ = os.Symlink(filepath.Join(data, "config"), link) // the second time it is there already
	if _, err := os.Readlink(p.file); err != nil {
		err := os.Rename(link, p.file)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// SIGHUP and the commands; what takes a restart is said and kept; what would change is said beforehand.
func TestReloadBySignalAndCommand(t *testing.T) {
	t.Parallel()
	p := newTestWorld(t).start(t, byHand)
	p.configure(t, func(s *settings) { byHand(s); s.Log["level"] = "error" })
	err := p.Signal(syscall.SIGHUP)
	if err != nil {
		t.Fatal(err)
	}
	p.waitGeneration(t, 2)
	line := p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool { return strings.Contains(line, `"by":"SIGHUP"`) })
	if !strings.Contains(line, "~ log.level") {
		t.Errorf("the log says %s", line)
	}
	mark := p.log.mark()
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	time.Sleep(300 * time.Millisecond) // the log waits for 50 ms
	if lines := p.log.since(mark); len(lines) > 0 {
		t.Errorf("with log.level error there are lines: %q", lines)
	}

	p.configure(t, func(s *settings) { byHand(s); s.Server["http2"] = false; s.KeyStores[1]["application"] = "payroll" })
	for range 2 { // it changes nothing
		stdout, stderr, code := command(t, "config", "diff", p.file)
		for _, part := range []string{"  ~ server.http2", "takes a restart", "  ~ key_stores[other].application", "\nA restart is needed for: server.http2\n"} {
			if !strings.Contains(stdout, part) || code != 0 {
				t.Errorf("config diff: exit code %d: %s%swant %q", code, stdout, stderr, part)
			}
		}
	}
	r := p.reload(t)
	if r.Generation != 3 || !slices.Equal(r.WaitsForRestart, []string{"server.http2"}) {
		t.Errorf("%+v", r)
	}
	if got := p.metric(t, "xks_proxy_config_waits_for_restart"); got != "1" {
		t.Errorf("xks_proxy_config_waits_for_restart is %q", got)
	}
	if reply := p.client(t, http2).post(t, healthURI, healthBody()); reply.proto != "HTTP/2.0" {
		t.Errorf("HTTP/2 was turned off without a restart: %s", reply.proto)
	}
	p.configure(t, byHand)
	stdout, _, code := command(t, "reload", "--config", p.file)
	if code != 0 || !strings.Contains(stdout, "is in use, as generation 4, after ") || strings.Contains(stdout, "http2") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	stdout, _, _ = command(t, "config", "diff", p.file)
	if stdout != "A reload would change nothing.\n" {
		t.Errorf("config diff: %q", stdout)
	}
}

// HSMs come and go by a reload: the process of one that is removed ends, one that is added serves.
func TestReloadHSMs(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, func(s *settings) { byHand(s); s.withSomeLeisure(); s.only(w.A) })
	c := p.client(t, http1)
	if got := len(p.workers()); got != 1 {
		t.Fatalf("%d processes", got)
	}
	a := p.worker(t, "hsm-a")
	p.configure(t, func(s *settings) { byHand(s); s.withSomeLeisure() })
	p.reload(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	if now := p.worker(t, "hsm-a"); now != a {
		t.Errorf("the process of hsm-a was %d and is %d: nothing of it had changed", a, now)
	}
	p.configure(t, func(s *settings) { byHand(s); s.withSomeLeisure(); s.only(w.B) })
	p.reload(t)
	if got := c.fleet(t); len(got) != 1 || got["hsm-b"] == "" {
		t.Errorf("the fleet is %v", got)
	}
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	if m := p.list(t).member(t, "hsm-b"); m.Requests == 0 {
		t.Error("hsm-b serves nothing")
	}
	waitGone(t, a)
}

// What an operator drained stays so when its group, or its process, is made anew.
func TestReloadKeepsDrained(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	p := w.start(t, byHand)
	p.hsm(t, "hsm-a is drained", "drain", "hsm-a")
	for name, edit := range map[string]func(*settings){
		"nothing":            func(*settings) {},
		"the group":          func(s *settings) { s.Group["probe_interval"] = "2s" },
		"the process of it":  func(s *settings) { s.HSMs[0]["sessions"] = 9 },
		"the group's name":   func(s *settings) { s.rename("renamed") },
		"the other HSM":      func(s *settings) { s.HSMs[1]["sessions"] = 7 },
		"all at once":        func(s *settings) { s.rename("again"); s.HSMs[0]["sessions"] = 5; s.HSMs[1]["sessions"] = 6 },
		"the budget of both": func(s *settings) { s.Server["budget"] = "19s" },
	} {
		p.configure(t, func(s *settings) { byHand(s); edit(s) })
		p.reload(t)
		l := p.list(t)
		if got := l.member(t, "hsm-a").Service; got != status.Drained {
			t.Errorf("after a change of %s hsm-a is %s", name, got)
		}
		if got := l.member(t, "hsm-b").Service; got == status.Drained {
			t.Errorf("after a change of %s hsm-b is %s", name, got)
		}
		p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
	p.hsm(t, "hsm-a is in service", "resume", "hsm-a")
	p.configure(t, byHand)
	p.reload(t)
	if got := p.list(t).member(t, "hsm-a").Service; got == status.Drained {
		t.Error("resumed, and drained again by a reload")
	}
}

// rename gives the group another name.
func (s *settings) rename(name string) {
	s.Group["name"] = name
	for _, k := range s.KeyStores {
		k["hsm_group"] = name
	}
}
