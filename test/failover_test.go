package test

// One HSM of the pair fails, or both: R1, R2, H2, H4, X7.

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

// kill -9 of one HSM's process under load, several times: no request fails.
func TestWorkerKilledUnderLoad(t *testing.T) {
	t.Parallel()
	p := newProxy(t, (*settings).withSomeLeisure)
	l := p.startLoad(t, http1, 300, 8)
	for i := range 5 {
		time.Sleep(800 * time.Millisecond)
		victim := []string{"hsm-a", "hsm-b"}[i%2]
		p.waitActive(t, victim)
		old := p.worker(t, victim)
		err := syscall.Kill(old, syscall.SIGKILL)
		if err != nil {
			t.Fatal(err)
		}
		waitGone(t, old)
	}
	p.waitActive(t, "hsm-a", "hsm-b")
	l.wantNoFailure(t, 500)
	if p.worker(t, "hsm-a") == 0 || p.log.find(func(line string) bool { return strings.Contains(line, "will be started again") }) == "" {
		t.Error("the log does not tell of the restarts")
	}
	p.wantHealthy(t)
}

// waitActive waits until these HSMs are ACTIVE.
func (p *proxy) waitActive(t testing.TB, hsms ...string) {
	t.Helper()
	for _, hsm := range hsms {
		p.waitStatus(t, hsm, "ACTIVE")
	}
}

func (p *proxy) waitStatus(t testing.TB, hsm, want string) {
	t.Helper()
	c := p.client(t, http1)
	eventually(t, 20*time.Second, func() error {
		if got := c.fleet(t)[hsm]; got != want {
			return fmt.Errorf("%s is %s, not %s; log:\n%s", hsm, got, want, p.log.tail(5))
		}
		return nil
	})
}

// away moves a token's directory away: to the module it looks as if the HSM were gone.
func (k *token) away(t testing.TB) {
	t.Helper()
	err := os.Rename(k.Tokens, k.Tokens+".away")
	if err != nil {
		t.Fatal(err)
	}
}

func (k *token) back(t testing.TB) {
	t.Helper()
	err := os.Rename(k.Tokens+".away", k.Tokens)
	if err != nil {
		t.Fatal(err)
	}
}

// An HSM whose tokens vanish answers as if its keys had been deleted. Requests go on
// on the other one; it is reported, and comes back by itself.
func TestTokenDirectoryGone(t *testing.T) {
	t.Parallel()
	p := newProxy(t, (*settings).withSomeLeisure)
	l := p.startLoad(t, http2, 100, 4)
	p.world.B.away(t)
	p.waitStatus(t, "hsm-b", "UNAVAILABLE")
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("ready: %d, with one HSM of two", status)
	}
	c := p.client(t, http1)
	c.post(t, metadataURI("key-1"), keyMetadataBody()).wantOK(t, new(object))
	for range 20 {
		s := c.encrypt(t, "key-1", withCDIV(encryptBody([]byte("x"), nil)))
		c.decrypt(t, "key-1", s, nil)
	}
	p.world.B.back(t)
	p.waitActive(t, "hsm-b")
	l.wantNoFailure(t, 50)
	p.wantHealthy(t)
}

// KeyNotFoundException makes KMS tell its caller to create a new key: it is said only
// when no HSM that might hold the key is away (X7).
func TestKeyNotFoundOnlyIfAllSaySo(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c := p.client(t, http1)
	c.post(t, encryptURI("nothing"), encryptBody([]byte("x"), nil)).wantError(t, 404, "KeyNotFoundException")
	p.world.B.away(t)
	p.waitStatus(t, "hsm-b", "UNAVAILABLE")
	for i, uri := range []func(string) string{encryptURI, metadataURI, decryptURI} {
		body := encryptBody([]byte("x"), nil)
		if i == 2 {
			body = decryptBody(seal(t, randomBytes(32), 1, 12, []byte("x"), nil), nil)
		}
		c.post(t, uri(fmt.Sprint("nothing-", i)), body).wantError(t, 500, "InternalException")
	}
	unknownVersion := seal(t, randomBytes(32), 99, 12, []byte("x"), nil)
	c.post(t, decryptURI("key-1"), decryptBody(unknownVersion, nil)).wantError(t, 500, "InternalException")
	p.world.B.back(t)
	p.waitActive(t, "hsm-b")
	c.post(t, encryptURI("nothing-4"), encryptBody([]byte("x"), nil)).wantError(t, 404, "KeyNotFoundException")
	c.post(t, decryptURI("key-1"), decryptBody(unknownVersion, nil)).wantError(t, 400, "InvalidCiphertextException")
}

// With one HSM away at the start the proxy starts anyway, if it has ever seen that HSM.
func TestOneHSMAbsentAtStart(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	first := w.start(t, nil)
	first.wantHealthy(t)
	first.stop(t)
	w.A.away(t)
	p := w.start(t, nil)
	c := p.client(t, http1)
	if status := c.fleet(t); status["hsm-a"] != "UNAVAILABLE" || status["hsm-b"] != "ACTIVE" {
		t.Errorf("health is %v", status)
	}
	s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	c.decrypt(t, "key-1", s, nil)
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("ready: %d", status)
	}
	w.A.back(t)
	p.waitActive(t, "hsm-a")
	p.wantHealthy(t)
}

// With both away while it runs the proxy says so, and recovers (H4, H5).
func TestBothHSMsGone(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	p.world.A.away(t)
	p.world.B.away(t)
	p.waitStatus(t, "hsm-a", "UNAVAILABLE")
	p.waitStatus(t, "hsm-b", "UNAVAILABLE")
	c := p.client(t, http1)
	r := c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil))
	r.wantError(t, 500, "InternalException")
	for _, base := range []string{"https://" + p.Listen, "http://" + p.Health} {
		status, body := p.get(t, c, base+"/healthz/ready")
		if status != 503 || strings.Contains(body, "hsm-") {
			t.Errorf("ready: %d %s", status, body)
		}
		status, _ = p.get(t, c, base+"/healthz/live")
		if status != 200 {
			t.Errorf("live: %d", status)
		}
	}
	p.world.A.back(t)
	p.world.B.back(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	p.wantHealthy(t)
}

// A process that is frozen stands for an HSM that hangs: health knows soon, and is never slow to say so (H2).
func TestHealthOfAHungHSM(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.Group["attempt_timeout"] = "60ms"
		s.Group["probe_timeout"] = "300ms"
	})
	c := p.client(t, http1)
	pid := p.worker(t, "hsm-a")
	err := syscall.Kill(pid, syscall.SIGSTOP)
	if err != nil {
		t.Fatal(err)
	}
	var took []time.Duration
	for range 20 {
		r := c.post(t, healthURI, healthBody())
		r.wantOK(t, new(object))
		took = append(took, r.took)
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
	slices.Sort(took)
	if half := took[len(took)/2]; half > 200*time.Millisecond { // each would wait for a probe; a busy machine delays some
		t.Errorf("GetHealthStatus took %v and more while an HSM hangs", half)
	}
	p.log.wait(t, startLimit, p.Exited(), func(line string) bool { // it may be well again by now
		return strings.Contains(line, "HSM health changed") && strings.Contains(line, `"hsm":"hsm-a"`) && strings.Contains(line, `"to":"UNAVAILABLE"`)
	})
	// The program itself ends the frozen process and starts another.
	eventually(t, startLimit, func() error {
		if p.worker(t, "hsm-a") == pid {
			return errNotYet
		}
		return nil
	})
	p.waitActive(t, "hsm-a")
	if now := p.worker(t, "hsm-a"); now == pid {
		t.Error("the frozen process serves on")
	}
	p.wantHealthy(t)
}

// With both HSMs hung, the answer comes before KMS gives up (U13). Not parallel: it is about time.
func TestBudget(t *testing.T) {
	var controls []*faulty.Control
	p := newProxy(t, func(s *settings) {
		s.withoutLeisure()
		controls = s.misbehave(t)
	})
	for try := 1; ; try++ {
		late := p.slowestTimeout(t, controls)
		if late <= kmsPatience || t.Failed() {
			break
		}
		t.Logf("an answer after %v", late)
		if try == budgetTries {
			t.Errorf("answers come later than KMS waits in each of %d tries", try)
			break
		}
	}
}

// budgetTries: one in time is enough, for a machine that stands still makes nothing faster.
const budgetTries = 5

// slowestTimeout has both HSMs hang, and gives the time of the latest answer to requests of all kinds.
func (p *proxy) slowestTimeout(t *testing.T, controls []*faulty.Control) time.Duration {
	t.Helper()
	old := p.client(t, http1)
	old.fleet(t) // its connection is there
	for _, control := range controls {
		err := control.Set(faulty.Rule{Function: faulty.Crypto, Action: faulty.Hang})
		if err != nil {
			t.Fatal(err)
		}
	}
	// All at once: the program notices within a few seconds that its processes hang.
	took := make(chan time.Duration, 1+len(ways))
	var asking sync.WaitGroup
	asking.Go(func() { took <- old.wantTimeout(t, false) })
	for _, w := range ways {
		asking.Go(func() { took <- p.client(t, w).wantTimeout(t, true) })
	}
	asking.Wait()
	close(took)
	slowest := time.Duration(0)
	for one := range took {
		slowest = max(slowest, one)
	}
	for _, control := range controls {
		control.Clear()
	}
	p.recovers(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	return slowest
}

// kmsPatience is how long KMS waits, connection set-up included, and what a busy machine may add here.
const kmsPatience = 250*time.Millisecond + 100*time.Millisecond

// wantTimeout gives the time that the answer took. One that is late is not looked at.
func (c *client) wantTimeout(t *testing.T, newConnection bool) time.Duration {
	r, err := c.do(t.Context(), c.call(encryptURI("key-1"), encode(encryptBody([]byte("x"), nil))))
	if err != nil {
		t.Errorf("%v: %v", c.way, err)
		return 0
	}
	if r.took > kmsPatience {
		return r.took
	}
	err = r.checkError(503, "DependencyTimeoutException")
	if err != nil {
		t.Errorf("%v: %v; log line:\n%s", c.way, err, r.line())
	}
	if line := r.line(); !strings.Contains(line, fmt.Sprintf(`"new_connection":%t`, newConnection)) || !strings.Contains(line, `"level":"error"`) {
		t.Errorf("%v: log line %s", c.way, line)
	}
	return r.took
}

// recovers waits until an Encrypt succeeds.
func (p *proxy) recovers(t testing.TB) {
	t.Helper()
	c := p.client(t, http1)
	eventually(t, startLimit, func() error {
		r := c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil))
		if r.status != http.StatusOK {
			return fmt.Errorf("%d %s", r.status, r.body)
		}
		return nil
	})
}
