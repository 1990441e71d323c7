package worker

// Running time, in synthetic time: a sleep without a reading is a standstill.

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRunClock()
		step := func(d, want, excused time.Duration) {
			t.Helper()
			before := c.now()
			time.Sleep(d)
			if got := c.now() - before; got != want {
				t.Errorf("after %v the clock went on by %v, want %v", d, got, want)
			}
			if got := max(0, c.excuses()); got != excused {
				t.Errorf("after %v others are excused for %v, want %v", d, got, excused)
			}
		}
		step(0, 0, 0)
		step(time.Millisecond, time.Millisecond, 0)
		step(longestStep, longestStep, 0)
		step(longestStep+1, tick, longestStep+1)
		step(3*time.Second, tick, time.Second)
		step(300*time.Millisecond, tick, 700*time.Millisecond) // the longer excuse holds
		step(time.Hour, tick, time.Second)
	})
}

// While somebody reads it the clock is exact.
func TestRunClockTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newRunClock()
		ctx, cancel := context.WithCancel(t.Context())
		go c.tick(ctx)
		time.Sleep(time.Minute + 7*time.Millisecond)
		if got := c.now(); got != time.Minute+7*time.Millisecond {
			t.Errorf("a minute and 7 ms are %v", got)
		}
		cancel()
		synctest.Wait()
	})
}

// A call grows older only while the process runs, and is hung as soon as it was before.
func TestAgesAreRunningTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{clock: newRunClock(), patience: 2 * time.Second, sessions: make([]session, 2)}
		run := func(d time.Duration) {
			for range d / tick {
				time.Sleep(tick)
				s.clock.now()
			}
		}
		run(time.Second)
		s.sessions[0].since.Store(int64(s.clock.now()))
		run(time.Second)
		time.Sleep(time.Hour)
		if p := s.pong(); p.Busy != 1 || p.Hung != 0 || p.Oldest != time.Second+tick {
			t.Errorf("after a freeze: %+v", p)
		}
		run(time.Second)
		if p := s.pong(); p.Hung != 1 || p.Overdue != tick {
			t.Errorf("two seconds of running time: %+v", p)
		}
	})
}
