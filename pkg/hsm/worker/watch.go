package worker

// One process as its supervisor sees it: opened, watched, buried.

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// burialTime is how long a killed process may take to be gone before it is
// reported: one that is stuck in the kernel stays, whatever the signal.
const burialTime = time.Second

// exitTime is how long a process may live on without its socket.
const exitTime = 100 * time.Millisecond

// open hands over the settings and waits until the token is open.
func (w *Worker) open(l *link, p *process, memory *memoryWatch) (ready, error) {
	err := l.hello(hello{
		Protocol: protocolVersion, Build: build(), MaxInFlight: w.config.MaxInFlight,
		HangTimeout: w.config.HangTimeout, Settings: w.settings,
	})
	if err != nil {
		return ready{}, err
	}
	limit := w.opening.limit(w.config.StartTimeout)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for waiting := true; waiting; {
		select {
		case o := <-l.opened:
			return o.ready, o.err
		case <-l.gone:
			waiting = false
		case <-p.exited:
			waiting = false
			// What it said last may still be in the socket.
			select {
			case <-l.gone:
			case <-time.After(exitTime):
			}
		case <-memory.ticker.C:
			err := memory.tooMuch(memoryOf(p.pid))
			if err != nil {
				w.set(func(s *State) { s.Overgrown++ })
				return ready{}, err
			}
		case <-timer.C:
			w.opening.missed++
			return ready{}, fmt.Errorf("its process did not open the token within %v", limit)
		case reason := <-w.restart:
			return ready{}, fmt.Errorf("%w: %s", errRestart, reason)
		case <-w.closing:
			return ready{}, errClosing
		}
	}
	select {
	case o := <-l.opened:
		return o.ready, o.err
	default:
		return ready{}, l.failure()
	}
}

// watch judges a process that is ready, until it has to go: it died, does not
// answer, has too many hung calls or too much memory, or is not wanted any more.
func (w *Worker) watch(l *link, p *process, memory *memoryWatch, maxHung int) error {
	closing := w.closing
	pings := newPinger(w.config, l.ping)
	defer pings.stop()
	clock := newRunClock()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	halt := newHalt(p.halted.Load, clock)
	defer halt.stop()
	for {
		select {
		case <-l.gone:
			return cmp.Or(memory.over, l.failure())
		case <-p.exited:
			return cmp.Or(memory.over, errGone)
		case <-memory.ticker.C:
			w.checkMemory(memory, l)
		case <-memory.patience:
			return memory.over
		case reason := <-w.restart:
			return fmt.Errorf("%w: %s", errRestart, reason)
		case reason := <-w.renew:
			if w.mayRenew(l) {
				return fmt.Errorf("%w: %s", errRenewed, reason)
			}
		case <-closing:
			closing = nil
			w.link.Store(nil) // no new calls; those in flight are finished first
			_ = l.goodbye()   // if it cannot be sent, the process is killed in the end
		case <-w.kill:
			return errClosing
		case refusal := <-l.refusals:
			w.refused(refusal)
		case pong := <-l.pongs:
			pings.answered()
			err := w.judge(pong, maxHung)
			if err != nil {
				return err
			}
		case <-pings.suspicions(w.suspects):
			pings.urge()
		case <-ticker.C:
			clock.now()
		case <-p.halts:
			halt.begin()
		case <-halt.timer.C:
			if halt.expired() {
				return errors.New("its process was stopped (SIGSTOP, or a debugger) and not continued")
			}
		case <-pings.timer.C:
			if len(l.pongs) == 0 && silent(pings, clock) { // whichever came first, a pong counts
				return fmt.Errorf("its process did not answer a ping within %v", w.config.PingTimeout)
			}
		}
	}
}

// mayRenew reports whether a request for a new process is carried out: not after a PIN was refused,
// for the next process would have none to try.
func (w *Worker) mayRenew(l *link) bool {
	return l.refusal() == nil && !w.State().PINRefused && !w.isClosing()
}

// silent is called when the pinger's timer fires. It reports whether the process is to be killed: a ping was not
// answered in time, and no standstill of this process excuses that.
func silent(pings *pinger, clock *runClock) bool {
	excuse := clock.excuses()
	if pings.waiting && excuse > 0 {
		pings.set(excuse)
		return false
	}
	return pings.expired()
}

// judge is what a pong says: an error if the process has to go because calls hang in
// the HSM. A few of them cost their sessions for a while; then they cost the process.
func (w *Worker) judge(p pong, maxHung int) error {
	w.set(func(s *State) { s.Busy, s.Hung, s.Oldest = p.Busy, p.Hung, p.Oldest })
	switch {
	case p.Hung >= maxHung:
		return fmt.Errorf("%d calls hang in the HSM for longer than %v, the oldest for %v", p.Hung, w.config.HangTimeout, p.Oldest)
	case p.Overdue > w.config.HungPatience:
		return fmt.Errorf("%d calls hang in the HSM, the oldest for %v, and keep their sessions from others", p.Hung, p.Oldest)
	}
	return nil
}

// bury ends a process, if it is not dead already, waits until it is gone, and
// gives the whole story of its end.
func (w *Worker) bury(l *link, p *process, cause error) error {
	w.enter(Failed, func(s *State) { s.LastErr = cause })
	l.fail(fmt.Errorf("%w: %w", errGone, cause))
	byItself := errors.Is(cause, errGone) && !errors.Is(cause, ErrProtocol)
	if byItself {
		select {
		case <-p.exited: // normally it is exiting just now
		case <-time.After(exitTime):
		}
	}
	p.kill()
	select {
	case <-p.exited:
		if byItself {
			return errors.New("its process " + p.end())
		}
		return cause
	case <-time.After(burialTime):
	}
	w.config.Log.Error("the HSM's process was killed and does not end: it is stuck in the kernel, probably in the HSM's driver; no other is started before it is gone",
		zap.Int("pid", p.pid), zap.NamedError("reason", cause))
	select {
	case <-p.exited:
	case <-w.kill:
	}
	return cause
}
