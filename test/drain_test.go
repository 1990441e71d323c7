package test

// The end of the program: R5, and nothing left running.

import (
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM under load: every request that was taken is answered, and well.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, w := range []way{http1, http2} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, nil)
			workers := p.workers()
			if len(workers) != 2 {
				t.Fatalf("workers %v", workers)
			}
			l := p.startLoad(t, w, 300, 8)
			for l.count() < 300 {
				time.Sleep(10 * time.Millisecond)
			}
			err := p.Signal(syscall.SIGTERM)
			if err != nil {
				t.Fatal(err)
			}
			code := p.waitExit(t, stopLimit)
			l.end()
			if code != 0 {
				t.Errorf("exit code %d; log:\n%s", code, p.log.tail(10))
			}
			l.checkOnlyRefused(t, p, crossings[w])
			if bad := len(l.took) - l.statuses[http.StatusOK]; bad > 0 {
				t.Errorf("%d requests were answered otherwise: %v", bad, l.statuses)
			}
			checkServedAllLogged(t, p, l)
			for _, worker := range workers {
				waitGone(t, worker.PID)
			}
			if last := p.log.tail(1); !strings.Contains(last, `"msg":"stopped"`) {
				t.Errorf("the last line of the log is %s", last)
			}
		})
	}
}

// crossings is how many requests may cross with the end of their connection: the program closed one that was
// idle while the client was writing on it (RFC 9112 section 9.3.1), once for each of HTTP/1.1's, or one that it had not accepted
// yet. HTTP/2 says GOAWAY, and the client knows what was not taken.
var crossings = map[way]int{http1: 8, http2: 1}

// checkOnlyRefused checks that the requests without a reply are such as nobody could have answered: no
// connection could be made any more. None of them was taken, which its line in the log would tell.
func (l *load) checkOnlyRefused(t *testing.T, p *proxy, crossings int) {
	t.Helper()
	crossed := 0
	for id, err := range l.lost {
		line := p.log.find(func(line string) bool { return strings.Contains(line, id) })
		switch {
		case line != "":
			t.Errorf("a request was taken and got no reply: %v; log line:\n%s", err, line)
		case !errors.Is(err, syscall.ECONNREFUSED):
			crossed++
			t.Logf("a request crossed with the end of its connection: %v", err)
		}
	}
	if crossed > crossings {
		t.Errorf("%d requests were sent on connections that the program closed, at most %d can be by chance", crossed, crossings)
	}
	if bad := len(l.failures) - len(l.lost); bad > 0 {
		t.Errorf("%d requests failed in another way: %q", bad, l.failures)
	}
}

func containsAny(text string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// checkServedAllLogged compares what the program says it served with what clients got: a reply that was
// written and never arrived would be a request cut off.
func checkServedAllLogged(t *testing.T, p *proxy, l *load) {
	t.Helper()
	served := 0
	for _, line := range p.log.all() {
		if strings.Contains(line, `"outcome":"ok"`) && containsAny(line, `"operation":"Encrypt"`, `"operation":"Decrypt"`) {
			served++
		}
	}
	if served != l.statuses[http.StatusOK] {
		t.Errorf("%d requests served by the log, %d answers received", served, l.statuses[http.StatusOK])
	}
}

// With a delay, readiness says no while requests are still served.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) { s.Server["drain_delay"] = "2s" })
	c := p.client(t, http1)
	if status := p.ready(t); status != http.StatusOK {
		t.Fatalf("ready: %d", status)
	}
	err := p.Signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, func() error {
		if status := p.ready(t); status != http.StatusServiceUnavailable {
			return errStillReady
		}
		return nil
	})
	if _, body := p.get(t, c, "https://"+p.Listen+"/healthz/ready"); body != `{"status":"draining"}` {
		t.Errorf("ready over HTTPS: %s", body)
	}
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.client(t, http2).encrypt(t, "key-1", encryptBody([]byte("x"), nil)) // over a new connection
	if code := p.waitExit(t, stopLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

var errStillReady = errors.New("readiness still says yes")

// A request in flight when SIGTERM comes is answered. Not beside other tests: processes that are
// stopped have to be replaced within the few tries of a request.
func TestDrainWaitsForRequests(t *testing.T) {
	p := newProxy(t, func(s *settings) {
		s.Server["budget"], s.Server["first_request_budget"], s.Group["attempt_timeout"] = "8s", "8s", "5s"
		s.Server["max_queue_time"] = "4s"
	})
	c := p.client(t, http1)
	c.fleet(t)
	frozen := p.workers()
	for _, w := range frozen {
		_ = syscall.Kill(w.PID, syscall.SIGSTOP)
	}
	answered := make(chan *reply, 1)
	go func() {
		r, err := c.do(t.Context(), c.call(encryptURI("key-1"), encode(encryptBody([]byte("x"), nil))))
		if err != nil {
			t.Errorf("no reply: %v", err)
		}
		answered <- r
	}()
	time.Sleep(100 * time.Millisecond)
	err := p.Signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	for _, w := range frozen {
		_ = syscall.Kill(w.PID, syscall.SIGCONT)
	}
	if r := <-answered; r != nil {
		r.wantOK(t, new(sealed))
	}
	p.waitExit(t, stopLimit)
}

// kill -9 of the proxy leaves no worker behind.
func TestNothingLeftAfterKill(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	workers := p.workers()
	if len(workers) != 2 {
		t.Fatalf("workers %v", workers)
	}
	err := p.Signal(syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	p.waitExit(t, stopLimit)
	for _, w := range workers {
		waitGone(t, w.PID)
	}
}

// A service manager sends SIGTERM to all processes of a unit, a terminal SIGINT: the workers leave it to the proxy to end them.
func TestSignalToAllProcesses(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	l := p.startLoad(t, http1, 100, 4)
	for l.count() < 50 {
		time.Sleep(10 * time.Millisecond)
	}
	for _, w := range p.workers() {
		_ = syscall.Kill(w.PID, syscall.SIGTERM)
	}
	time.Sleep(300 * time.Millisecond)
	l.wantNoFailure(t, 50)
	err := p.Signal(syscall.SIGINT)
	if err != nil {
		t.Fatal(err)
	}
	if code := p.waitExit(t, stopLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
