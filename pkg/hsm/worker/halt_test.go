package worker

// Processes that were stopped.

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// A process that is stopped is replaced within two seconds, also if nobody calls it. (It takes
// about as long as haltPatience.)
func TestStoppedProcess(t *testing.T) {
	for _, idle := range []bool{true, false} {
		var took []time.Duration
		for range 5 {
			w := readyWorker(t, testConfig(t, testSettings{}))
			old := w.State().PID
			var results <-chan []error
			if !idle {
				results = pending(t, w, 1)
			}
			begin := time.Now()
			_ = unix.Kill(old, unix.SIGSTOP)
			eventually(t, 2*time.Second, "it is not replaced", func() bool { s := w.State(); return s.Phase == Running && s.PID != old })
			took = append(took, time.Since(begin))
			if !idle {
				wantAllGone(t, results, time.Second)
			}
			if s := w.State(); !works(w) || s.LastErr == nil || !strings.Contains(s.LastErr.Error(), "was stopped") {
				t.Errorf("state is %+v", s)
			}
		}
		slices.Sort(took)
		t.Logf("idle: %v; from SIGSTOP to ready: %v", idle, took)
	}
}

// A process that is continued soon, as often as it may be, is left alone.
func TestStoppedAndContinued(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	for range 20 {
		pid := w.State().PID
		_ = unix.Kill(pid, unix.SIGSTOP)
		time.Sleep(2 * time.Millisecond)
		_ = unix.Kill(pid, unix.SIGCONT)
		time.Sleep(30 * time.Millisecond)
	}
	if s := w.State(); s.Restarts != 0 || !works(w) {
		t.Errorf("state is %+v", s)
	}
}

// The decision, in synthetic time.
func TestHalt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var halted atomic.Bool
		h := newHalt(halted.Load, newRunClock())
		defer h.stop()
		halted.Store(true)
		begin := time.Now()
		h.begin()
		<-h.timer.C
		if !h.expired() || time.Since(begin) != haltPatience {
			t.Errorf("a stopped process is kept after %v", time.Since(begin))
		}
		h.begin()
		halted.Store(false)
		<-h.timer.C
		if h.expired() {
			t.Error("a process that was continued is killed")
		}
	})
}

// A process that was stopped together with this one has time to be continued later, as long again as both
// stood still, at most a second; then it is killed. The news of it comes before the standstill or after it.
func TestHaltAfterStandstill(t *testing.T) {
	for _, c := range []struct{ stood, excuse time.Duration }{
		{40 * time.Millisecond, 40*time.Millisecond - haltPatience}, // of which the timer saw this
		{300 * time.Millisecond, 300 * time.Millisecond},
		{3 * time.Second, time.Second},
		{time.Hour, time.Second},
	} {
		for _, before := range []bool{true, false} {
			if c.stood <= longestStep && !before {
				continue // nothing saw it
			}
			synctest.Test(t, func(t *testing.T) {
				h := newHalt(func() bool { return true }, newRunClock())
				defer h.stop()
				if before {
					h.begin()
				}
				time.Sleep(c.stood)
				thaw := time.Now()
				h.clock.now() // the ticker, or the timer, whichever was first
				if !before {
					h.begin()
				}
				ticking, still := context.WithCancel(t.Context())
				defer still()
				go h.clock.tick(ticking)
				for range 10 {
					<-h.timer.C
					if h.expired() {
						break
					}
				}
				if took := time.Since(thaw); took != c.excuse {
					t.Errorf("stood still for %v, news before it %v: killed %v later, want %v", c.stood, before, took, c.excuse)
				}
			})
		}
	}
}

// A call without an answer brings the ping forward: a deaf process is found one timeout later.
func TestSuspect(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.PingInterval, c.PingTimeout = time.Hour, 300*time.Millisecond
	w := readyWorker(t, c)
	makeDeaf(t, w)
	results := pending(t, w, 1)
	time.Sleep(500 * time.Millisecond)
	if w.State().Restarts != 0 {
		t.Fatal("found without a ping")
	}
	begin := time.Now()
	w.Suspect()
	wantAllGone(t, results, 2*time.Second)
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("killed after %v", took)
	}
	eventually(t, 5*time.Second, "no new process works", func() bool { return works(w) })
}

// A process that answers is left alone, and a storm of suspicions costs some pings a second.
func TestSuspectStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		p := newPinger(Config{PingInterval: 500 * time.Millisecond, PingTimeout: time.Second}, func() error { sent++; return nil })
		defer p.stop()
		suspects := make(chan struct{}, 1)
		pongs := make(chan struct{}, 1)
		heard := 0
		for begin := time.Now(); time.Since(begin) < 10*time.Second; {
			nudge(suspects) // always another one
			select {
			case <-p.suspicions(suspects):
				heard++
				p.urge()
			case <-p.timer.C:
				if p.expired() {
					t.Fatal("expired")
				}
				time.AfterFunc(time.Millisecond, func() { pongs <- struct{}{} })
			case <-pongs:
				p.answered()
			}
		}
		if sent < 190 || sent > 201 || heard > 202 {
			t.Errorf("%d pings and %d suspicions heard in 10 s", sent, heard)
		}
	})
	w := readyWorker(t, testConfig(t, testSettings{}))
	begin := time.Now()
	for range 200_000 {
		w.Suspect()
	}
	t.Logf("a call of Suspect takes %v", time.Since(begin)/200_000)
	if !works(w) || w.State().Restarts != 0 {
		t.Errorf("state is %+v", w.State())
	}
}

// An urgent ping never delays the one that is due.
func TestUrgeNeverDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPinger(Config{PingInterval: 30 * time.Millisecond, PingTimeout: time.Second}, func() error { return nil })
		defer p.stop()
		<-p.timer.C
		_ = p.expired()
		p.answered()
		begin := time.Now()
		p.urge()
		<-p.timer.C
		if took := time.Since(begin); took != 30*time.Millisecond {
			t.Errorf("the next ping came after %v", took)
		}
	})
}

// Changed tells the group when to look.
func TestChanged(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.BackoffMin, c.BackoffMax = 300*time.Millisecond, 300*time.Millisecond
	w := readyWorker(t, c)
	var _ hsm.Supervised = w
	// Two groups ask: neither takes the word from the other.
	first, second := w.Changed(t.Context()), w.Changed(t.Context())
	ended, end := context.WithCancel(t.Context())
	w.Changed(ended)
	end()
	eventually(t, 5*time.Second, "a channel that nobody reads is kept", func() bool { return w.changed.count() == 2 })
	next := func(what string) {
		t.Helper()
		for _, changed := range []<-chan struct{}{first, second} {
			select {
			case <-changed:
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: Changed is silent", what)
			}
		}
	}
	if !works(w) {
		t.Error("not usable when told so")
	}
	_ = unix.Kill(w.State().PID, unix.SIGKILL)
	next("dead")
	if works(w) {
		t.Error("usable when told that it is gone")
	}
	eventually(t, 5*time.Second, "no new process", func() bool { return w.State().Phase == Running })
	next("ready again")
	if !works(w) {
		t.Error("not usable when told so again")
	}
}

func (w *watchers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.open)
}
