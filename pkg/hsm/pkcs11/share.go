package pkcs11

// One check for all who need it at the same time. A flood of vague answers then costs the HSM one
// canary after another, not one for each answer.

import (
	"context"
	"sync"
	"time"
)

// shareTimeout bounds the wait for a check. It is longer than whoever starts the process
// takes to call a call hung: a check that hangs in the module must show in those that wait for it.
const shareTimeout = 5 * time.Second

// sharedCheck runs a check for many callers, one run at a time. A caller gets the result of the
// first run that begins after it came: what an earlier one found could be out of date.
type sharedCheck struct {
	check func(context.Context) error
	turn  chan struct{} // full while a run goes on

	mu   sync.Mutex
	next *checkRun // has not begun: whoever comes now shares it; nil: none
}

// checkRun is one run. err is good when done is closed.
type checkRun struct {
	done chan struct{}
	err  error
}

func newSharedCheck(check func(context.Context) error) *sharedCheck {
	return &sharedCheck{check: check, turn: make(chan struct{}, 1)}
}

// do gives the result of check, or ErrTimeout if it did not come within shareTimeout or ctx. The
// caller that leads a run makes it itself, and its ctx does not count: its end must not fail the
// others. Like any call that is inside the module it waits until that returns.
func (c *sharedCheck) do(ctx context.Context) error {
	run, leads := c.join()
	if leads {
		c.lead(context.WithoutCancel(ctx), run)
		return run.err
	}
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	select {
	case <-run.done:
		return run.err
	case <-ctx.Done():
		return timeout("wait for the canary", ctx)
	}
}

// join gives the next run. The bool says that the caller is the first to want it and has to make it.
func (c *sharedCheck) join() (*checkRun, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next != nil {
		return c.next, false
	}
	c.next = &checkRun{done: make(chan struct{})}
	return c.next, true
}

// lead waits for the run before and makes this one.
func (c *sharedCheck) lead(ctx context.Context, run *checkRun) {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	defer close(run.done)
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
		c.begin()
		run.err = c.check(ctx)
	case <-ctx.Done():
		c.begin()
		run.err = timeout("wait for the canary", ctx)
	}
}

// begin leaves whoever comes from now on to another run.
func (c *sharedCheck) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = nil
}
