package xks

// Overload (requirement R3): what is let in is answered in time, the rest is refused at once; one
// key store cannot take everything from another. In a bubble of synctest, so that only the HSMs
// take time.

import (
	"context"
	"net"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks/listener"
)

// smallHSM has so many sessions, and takes so long for each call; the others wait in line, as in a
// process of package worker.
type smallHSM struct {
	hsm.Token
	free    chan struct{}
	each    time.Duration
	waiting atomic.Int32
}

func newSmallHSM(t hsm.Token, sessions int, each time.Duration) *smallHSM {
	return &smallHSM{Token: t, free: make(chan struct{}, sessions), each: each}
}

// Waiting implements hsm.Queued.
func (s *smallHSM) Waiting() int { return int(s.waiting.Load()) }

func (s *smallHSM) Info() hsm.Info {
	info := s.Token.Info()
	info.Sessions = cap(s.free)
	return info
}

func (s *smallHSM) Encrypt(
	ctx context.Context, ref hsm.KeyRef, aad, plaintext []byte,
) (hsm.Sealed, error) {
	s.waiting.Add(1)
	select {
	case s.free <- struct{}{}:
	case <-ctx.Done():
		s.waiting.Add(-1)
		return hsm.Sealed{}, &hsm.Error{Op: "encrypt", Kind: hsm.Timeout(ctx.Err())}
	}
	done := make(chan struct{})
	go func() { // a call of PKCS#11 cannot be cancelled
		time.Sleep(s.each)
		<-s.free
		s.waiting.Add(-1)
		close(done)
	}()
	select {
	case <-done:
		return s.Token.Encrypt(ctx, ref, aad, plaintext)
	case <-ctx.Done():
		return hsm.Sealed{}, &hsm.Error{Op: "encrypt", Kind: hsm.Timeout(ctx.Err())}
	}
}

// smallHSMs makes both HSMs so, with the times that the program has by default.
func smallHSMs(sessions int, each time.Duration) change {
	return func(c *Config, g *group.Config) {
		c.Budget, c.FirstRequestBudget, c.MaxQueueTime, c.Log = 0, 0, 0, zap.NewNop()
		g.Budget, g.AttemptTimeout, g.ParityRate = 0, 0, 0
		for i := range g.Members {
			g.Members[i].Token = newSmallHSM(g.Members[i].Token, sessions, each)
		}
	}
}

// tally is what became of the requests of one key store after a first second, in which the proxy
// learns how quick the HSMs are.
type tally struct {
	mu                      sync.Mutex
	ok, throttled, others   int
	slowest, slowestRefusal time.Duration
	other                   string // the last of the others
}

func (c *tally) add(p reply, took time.Duration, name errorName) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch name {
	case "":
		c.ok++
		c.slowest = max(c.slowest, took)
	case throttling:
		c.throttled++
		c.slowestRefusal = max(c.slowestRefusal, took)
	default:
		c.others++
		c.other = string(p.body)
	}
}

const learning = time.Second

// load sends rate calls a second, whether or not they are answered.
func (r *rig) load(c call, rate int, lasting time.Duration, to *tally) {
	var running sync.WaitGroup
	start := time.Now()
	for n := 0; ; n++ {
		due := time.Duration(n) * time.Second / time.Duration(rate)
		if due >= lasting {
			break
		}
		time.Sleep(due - time.Since(start))
		running.Go(func() {
			sent := time.Now()
			recorder := httptest.NewRecorder()
			r.handler.ServeHTTP(recorder, c.request())
			p := reply{recorder.Code, recorder.Header(), recorder.Body.Bytes()}
			if due >= learning {
				to.add(p, time.Since(sent), p.errorName(r.t))
			}
		})
	}
	running.Wait()
}

// TestOverload: a slow pair that can serve 53 requests a second gets ten times as many. What it
// cannot serve is refused at once, and what it takes on it answers.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, each, lasting = 4, 150 * time.Millisecond, 6 * time.Second
		t.Cleanup(func() { time.Sleep(each) }) // for the calls that nobody waits for
		r := newRig(t, smallHSMs(sessions, each))
		var c tally
		capacity := int(2 * sessions * time.Second / each)
		r.load(
			newCall(t, testCredential, keyURI(goodKey, "encrypt"), encryptFields(nil)), 10*capacity,
			lasting, &c,
		)
		t.Logf(
			"%d served, %d throttled, %d others; the slowest %v, the slowest refusal %v", c.ok,
			c.throttled, c.others, c.slowest, c.slowestRefusal,
		)
		if c.ok < capacity*int((lasting-learning)/time.Second)*8/10 {
			t.Errorf("only %d were served, of %d a second", c.ok, capacity)
		}
		if c.others > 0 || c.slowest > defaultBudget || c.slowestRefusal > 5*time.Millisecond {
			t.Errorf("%d had another answer: %s", c.others, c.other)
		}
	})
}

// TestFairness: one key store asks for ten times what the HSMs can do; another, with a twentieth,
// is always served.
func TestFairness(t *testing.T) {
	for _, s := range []struct {
		name   string
		change change
	}{
		{"sessions", func(*Config, *group.Config) {}},
		{"in flight", func(c *Config, _ *group.Config) { c.MaxInFlight = 12 }},
	} {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const sessions, each, lasting = 4, 10 * time.Millisecond, 4 * time.Second
				t.Cleanup(func() { time.Sleep(each) })
				r := newRig(t, withOther, smallHSMs(sessions, each), s.change)
				capacity := int(2 * sessions * time.Second / each)
				var noisy, quiet tally
				var both sync.WaitGroup
				both.Go(func() {
					r.load(
						newCall(t, testCredential, keyURI(goodKey, "encrypt"), encryptFields(nil)),
						10*capacity, lasting, &noisy,
					)
				})
				both.Go(func() {
					r.load(
						newCall(
							t, otherCredential, otherURI+"/keys/"+goodKey+"/encrypt",
							encryptFields(nil),
						),
						capacity/20,
						lasting,
						&quiet,
					)
				})
				both.Wait()
				t.Logf(
					"noisy: %d served, %d throttled, slowest %v; quiet: %d served, %d throttled, slowest %v",
					noisy.ok, noisy.throttled, noisy.slowest, quiet.ok, quiet.throttled,
					quiet.slowest,
				)
				if quiet.throttled > 0 || quiet.others > 0 || noisy.others > 0 {
					t.Errorf(
						"quiet: %d throttled, %d others %s; noisy: %d others %s", quiet.throttled,
						quiet.others, quiet.other, noisy.others, noisy.other,
					)
				}
				if least := capacity * int((lasting-learning)/time.Second); noisy.ok < least*6/10 ||
					quiet.ok < least/20*9/10 {
					t.Errorf("noisy %d, quiet %d served: the HSMs stand idle", noisy.ok, quiet.ok)
				}
			})
		})
	}
}

// TestAlone: a key store that is the only one has everything, also above half.
func TestAlone(t *testing.T) {
	r := newRig(t, func(c *Config, _ *group.Config) { c.MaxInFlight = 4 })
	entered, release := r.holdEncrypts()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { encryptGood(r).wantOK(t) })
		<-entered
	}
	r.wantThrottled(encryptGood(r), overMaxInFlight)
	close(release)
	all.Wait()
}

// TestHalfIsForOthers: of several key stores one cannot have more than half of what there is, and
// the next finds room.
func TestHalfIsForOthers(t *testing.T) {
	r := newRig(t, withOther, func(c *Config, _ *group.Config) { c.MaxInFlight = 8 })
	entered, release := r.holdEncrypts()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { encryptGood(r).wantOK(t) })
		<-entered
	}
	r.wantThrottled(encryptGood(r), overShare)
	for range 2 {
		all.Go(func() { r.otherEncrypt().wantOK(t) })
		<-entered
	}
	close(release)
	all.Wait()
}

// TestLate: a request that has waited too long for us is shed, and the log says how long it waited;
// one whose client was slow is not.
func TestLate(t *testing.T) {
	r := newRig(t, func(c *Config, _ *group.Config) { c.MaxQueueTime = 100 * time.Millisecond })
	for waited, shed := range map[time.Duration]bool{150 * time.Millisecond: true, 20 * time.Millisecond: false} {
		connection := hasRead(t)
		time.Sleep(waited)
		q := newCall(t, testCredential, keyURI(goodKey, "encrypt"), encryptFields(nil)).request()
		p := r.serve(q.WithContext(listener.ConnContext(q.Context(), connection)))
		if queued, _ := r.lastLine()["queued_ms"].(float64); queued < float64(
			waited/time.Millisecond,
		) {
			t.Errorf("the log says queued_ms %v of %v", queued, waited)
		}
		switch {
		case shed:
			r.wantThrottled(p, overQueueTime)
		case time.Duration(r.lastLine()["queued_ms"].(float64))*time.Millisecond < 90*time.Millisecond: // or the machine stood still
			p.wantOK(t)
		}
	}
}

// hasRead is a connection of a Listener that has read a byte just now.
func hasRead(t *testing.T) net.Conn {
	t.Helper()
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listener.New(raw, 1, zap.NewNop())
	t.Cleanup(func() { _ = l.Close() })
	client, err := net.Dial("tcp", raw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	connection, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_, err = client.Write([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = connection.Read(make([]byte, 1))
	if err != nil {
		t.Fatal(err)
	}
	return connection
}
