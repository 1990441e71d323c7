package worker

// A process that was stopped (SIGSTOP) lives, holds its sessions and answers
// nothing. The kernel tells its parent at once; no ping need fail first.

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Values of si_code for SIGCHLD (POSIX, <signal.h>), which package unix lacks.
const (
	cldStopped   = 5
	cldContinued = 6
)

// follow keeps halted true to what the child does and returns when it has ended,
// for somebody else to wait for it. It reports false if it cannot know.
func (p *process) follow() bool {
	for {
		// This one only waits for news: taking the end away would leave cmd.Wait without it.
		code, err := p.waitid(unix.WSTOPPED | unix.WCONTINUED | unix.WEXITED | unix.WNOWAIT)
		if err != nil || code != cldStopped && code != cldContinued {
			return err == nil
		}
		// The news may be old by now. What is taken is what holds.
		code, err = p.waitid(unix.WSTOPPED | unix.WCONTINUED | unix.WNOHANG)
		if err != nil {
			return false
		}
		switch code {
		case cldStopped:
			p.halted.Store(true)
			nudge(p.halts)
		case cldContinued:
			p.halted.Store(false)
		}
	}
}

// waitid is the si_code of what the child did; 0 if nothing.
func (p *process) waitid(options int) (int32, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, p.pid, &info, options, nil)
		if !errors.Is(err, unix.EINTR) {
			return info.Code, err
		}
	}
}

// haltPatience is how long a process may be stopped before it is killed. Whoever
// stops the proxy and its processes together does it in less.
const haltPatience = 20 * time.Millisecond

// halt decides whether a process that was stopped is given up. Whoever stopped it may have stopped
// this process too, and continue one after the other: clock knows.
type halt struct {
	halted func() bool
	clock  *runClock
	timer  *time.Timer // fires when to decide
	due    time.Time   // when that is
}

func newHalt(halted func() bool, clock *runClock) *halt {
	h := &halt{halted: halted, clock: clock, timer: time.NewTimer(time.Hour)}
	h.timer.Stop()
	return h
}

func (h *halt) stop() { h.timer.Stop() }

// begin is called when the process was stopped.
func (h *halt) begin() { h.wait(haltPatience) }

func (h *halt) wait(d time.Duration) {
	h.due = time.Now().Add(d)
	h.timer.Reset(d)
}

// expired is called when the timer fires. It reports whether the process is to be
// killed: it is still stopped, and not excused by a standstill of this process.
func (h *halt) expired() bool {
	if !h.halted() {
		return false
	}
	late := time.Since(h.due)
	if late >= haltPatience {
		h.clock.stoodStill(late)
	}
	excuse := h.clock.excuses()
	if excuse > 0 {
		h.wait(excuse)
		return false
	}
	return true
}

// nudge leaves a value in a channel of capacity 1.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
