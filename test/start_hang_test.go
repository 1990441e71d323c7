package test

// The start while HSMs do not answer: what the program says meanwhile, how it ends
// when it is told to, and when it waits instead of ending.

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"xks-proxy/test/faulty"
)

// hangingStart launches a proxy whose HSMs hang in C_Initialize until the controls are cleared. Its
// health port is known once it starts.
func (w *world) hangingStart(t *testing.T) (*proxy, []*faulty.Control) {
	t.Helper()
	var controls []*faulty.Control
	p := w.launch(t, func(s *settings) {
		controls = s.misbehave(t)
		for _, c := range controls {
			err := c.Set(faulty.Rule{Function: "C_Initialize", Action: faulty.Hang})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	line := p.log.wait(t, startLimit, p.Exited(), func(line string) bool { return strings.Contains(line, `"msg":"starting"`) })
	var starting struct{ Health, Admin string }
	err := json.Unmarshal([]byte(line), &starting)
	if err != nil || starting.Health == "" || starting.Admin == "" {
		t.Fatalf("%v: %s", err, line)
	}
	p.Health = starting.Health
	eventually(t, startLimit, func() error { // both hang by now
		for _, c := range controls {
			if c.Injected() == 0 {
				return errNotYet
			}
		}
		return nil
	})
	return p, controls
}

func (p *proxy) plainGet(t *testing.T, path string) (int, string) {
	t.Helper()
	return p.get(t, &client{}, "http://"+p.Health+path)
}

// Liveness, readiness, the metrics and the admin socket answer while the HSMs hang at the start.
func TestHealthDuringAHangingStart(t *testing.T) {
	t.Parallel()
	p, controls := newTestWorld(t).hangingStart(t)
	if status, body := p.plainGet(t, "/healthz/live"); status != http.StatusOK || body != `{"status":"live"}` {
		t.Errorf("live: %d %s", status, body)
	}
	if status, body := p.plainGet(t, "/healthz/ready"); status != http.StatusServiceUnavailable || body != `{"status":"starting"}` {
		t.Errorf("ready: %d %s", status, body)
	}
	if status, body := p.plainGet(t, "/metrics"); status != http.StatusOK || !strings.Contains(body, `xks_proxy_hsm_process_up{hsm="hsm-a"} 0`) {
		t.Errorf("metrics: %d %s", status, body)
	}
	p.hsm(t, "The proxy is starting: it waits for its HSMs", "list")
	p.hsmFails(t, "the proxy is still starting and waits for its HSMs: nothing was changed", "drain", "hsm-a")
	for _, c := range controls {
		c.Clear()
	}
	p.waitServing(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	if status, body := p.plainGet(t, "/healthz/ready"); status != http.StatusOK {
		t.Errorf("ready: %d %s", status, body)
	}
	p.wantHealthy(t)
}

// Told to stop during such a start, the program says that, and nothing of HSMs that it has not
// waited for.
func TestStopDuringAHangingStart(t *testing.T) {
	t.Parallel()
	p, _ := newTestWorld(t).hangingStart(t)
	mark := p.log.mark()
	_ = p.Signal(syscall.SIGTERM) // gone already: the wait says
	if code := p.waitExit(t, stopLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines := p.log.since(mark)
	if len(lines) != 1 || !strings.Contains(lines[0], `"level":"info"`) || !strings.Contains(lines[0], `"msg":"stopped before it began to serve"`) {
		t.Errorf("want one sentence, got:\n%s", strings.Join(lines, "\n"))
	}
}

// HSMs that were reached before are away, whatever they say now: the program waits for them. It
// ends when they never were.
func TestStartWhenBothHSMsRefuse(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.start(t, nil).stop(t)
	writeFile(t, w.A.pinFile(), "not-the-pin\n")
	p := w.start(t, func(s *settings) { s.HSMs[1]["module"] = w.file("nothing.so") })
	if status := p.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", status)
	}
	if fleet := p.client(t, http1).fleet(t); fleet["hsm-a"] != "UNAVAILABLE" || fleet["hsm-b"] != "UNAVAILABLE" {
		t.Errorf("health is %v", fleet)
	}
	_, logged := splitLog(p.log.all())
	checkOneLogin(t, logged)
	writeFile(t, w.A.pinFile(), w.A.PIN+"\n")
	p.hsm(t, "hsm-a has a new process, ", "restart", "hsm-a")
	p.waitActive(t, "hsm-a")
	p.stop(t)
	writeFile(t, w.A.pinFile(), "not-the-pin\n")
	fresh := w.launch(t, func(s *settings) {
		s.HSMs[1]["module"] = w.file("nothing.so")
		s.State = w.file("another-state")
	})
	if code := fresh.waitExit(t, startLimit); code != 1 || !strings.Contains(fresh.log.tail(1), "no HSM can be used: ") ||
		!strings.HasSuffix(fresh.log.tail(1), "; correct the PIN and start again") {
		t.Errorf("exit code %d:\n%s", code, fresh.log.tail(5))
	}
}

// Why the program ended is in its log, also when that is a file.
func TestFatalSentenceIsInTheLog(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	writeFile(t, w.A.pinFile(), "not-the-pin\n")
	p := w.launch(t, func(s *settings) { s.Log["output"] = w.file("proxy.log") })
	if code := p.waitExit(t, startLimit); code != 1 {
		t.Errorf("exit code %d", code)
	}
	text, err := os.ReadFile(w.file("proxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	for where, said := range map[string]string{"the log": string(text), "stderr": p.log.tail(10)} {
		if strings.Count(said, "an HSM that was never reached before cannot be used: hsm-a: ") != 1 || !strings.Contains(said, "correct the PIN and start again") {
			t.Errorf("%s:\n%s", where, said)
		}
	}
	checkNoSecrets(t, w, "log", text)
	again := w.launch(t, nil)
	again.waitExit(t, startLimit)
	if said := again.log.tail(1); !strings.Contains(said, "the same PIN is not tried again") || !strings.HasSuffix(said, "; correct the PIN and start again") {
		t.Errorf("the second start: %s", said)
	}
}
