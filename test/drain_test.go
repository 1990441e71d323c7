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
			err := p.signal(syscall.SIGTERM)
			if err != nil {
				t.Fatal(err)
			}
			code := p.waitExit(t, stopLimit)
			l.end()
			if code != 0 {
				t.Errorf("exit code %d; log:\n%s", code, p.log.tail(10))
			}
			// After the end no connection can be made, and on an old one nothing is taken any more. What was taken got 200.
			for _, failure := range l.failures {
				if !refusedConnection(failure) {
					t.Errorf("a request failed: %s", failure)
					break
				}
			}
			if bad := len(l.took) - l.statuses[http.StatusOK]; bad > 0 {
				t.Errorf("%d requests were answered otherwise: %v", bad, l.statuses)
			}
			checkServedAllLogged(t, p, l)
			for _, worker := range workers {
				waitGone(t, worker.pid)
			}
			if last := p.log.tail(1); !strings.Contains(last, `"msg":"stopped"`) {
				t.Errorf("the last line of the log is %s", last)
			}
		})
	}
}

// refusedConnection tells a request that was never taken from one that was cut off.
func refusedConnection(failure string) bool {
	return containsAny(failure, "connection refused", "connect: ", "server closed idle connection", "GOAWAY", "EOF", "connection reset", "closing")
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
	err := p.signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Second, func() error {
		if status := p.ready(t); status != http.StatusServiceUnavailable {
			return errStillReady
		}
		return nil
	})
	if _, body := p.get(t, c, "https://"+p.listen+"/healthz/ready"); body != `{"status":"draining"}` {
		t.Errorf("ready over HTTPS: %s", body)
	}
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.client(t, http2).encrypt(t, "key-1", encryptBody([]byte("x"), nil)) // over a new connection
	if code := p.waitExit(t, stopLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

var errStillReady = errors.New("readiness still says yes")

// A request in flight when SIGTERM comes is answered.
func TestDrainWaitsForRequests(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.Server["budget"], s.Server["first_request_budget"], s.Group["attempt_timeout"] = "8s", "8s", "5s"
	})
	c := p.client(t, http1)
	c.fleet(t)
	frozen := p.workers()
	for _, w := range frozen {
		_ = syscall.Kill(w.pid, syscall.SIGSTOP)
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
	err := p.signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	for _, w := range frozen {
		_ = syscall.Kill(w.pid, syscall.SIGCONT)
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
	err := p.signal(syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	p.waitExit(t, stopLimit)
	for _, w := range workers {
		waitGone(t, w.pid)
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
		_ = syscall.Kill(w.pid, syscall.SIGTERM)
	}
	time.Sleep(300 * time.Millisecond)
	l.wantNoFailure(t, 50)
	err := p.signal(syscall.SIGINT)
	if err != nil {
		t.Fatal(err)
	}
	if code := p.waitExit(t, stopLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
