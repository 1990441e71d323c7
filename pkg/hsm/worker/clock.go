package worker

// Time in which this process runs. Stopped, in a frozen cgroup or on a paused machine it stands
// still while time.Now goes on, and nobody else is to blame for what did not happen meanwhile.

import (
	"context"
	"sync"
	"time"
)

const (
	tick        = 50 * time.Millisecond  // how often a runClock has to be read
	longestStep = 100 * time.Millisecond // more than this between two readings is a standstill
	excuseMax   = time.Second            // see excuse
)

// runClock measures running time. A standstill counts for one tick, a shorter one than
// longestStep in full: a busy machine is not a frozen one.
type runClock struct {
	mu      sync.Mutex
	read    time.Time     // the last reading
	ran     time.Duration // until then
	excused time.Time     // until when others are excused
}

func newRunClock() *runClock { return &runClock{read: time.Now()} }

// now is for how long this process has run since the clock was made.
func (c *runClock) now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	step := now.Sub(c.read)
	c.read = now
	if step > longestStep {
		c.excuse(now, step)
		step = tick
	}
	c.ran += step
	return c.ran
}

// stoodStill tells of a standstill that just ended and that the clock itself may have been too coarse to see.
func (c *runClock) stoodStill(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.excuse(time.Now(), d)
}

// excuse excuses others for as long again as this process stood still, at most excuseMax: who stood still
// with it may go on later.
func (c *runClock) excuse(now time.Time, d time.Duration) {
	until := now.Add(min(d, excuseMax))
	if until.After(c.excused) {
		c.excused = until
	}
}

// excuses is for how much longer others are excused; 0 or less if they are not.
func (c *runClock) excuses() time.Duration {
	c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Until(c.excused)
}

// tick reads the clock until ctx ends.
func (c *runClock) tick(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.now()
		}
	}
}
