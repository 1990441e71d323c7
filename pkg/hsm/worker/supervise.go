package worker

// The supervisor: one goroutine that keeps a process running, judges it, and
// buries it.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
)

// Reasons for the end of a process that are no failure.
var (
	errClosing = errors.New("closed")
	errRestart = errors.New("restarted")
)

// burialTime is how long a killed process may take to be gone before it is
// reported: one that is stuck in the kernel stays, whatever the signal.
const burialTime = time.Second

// exitTime is how long a process may live on without its socket.
const exitTime = 100 * time.Millisecond

func (w *Worker) supervise() {
	defer close(w.done)
	defer w.enter(Closed, nil)
	retry := retry{min: w.config.BackoffMin, max: w.config.BackoffMax}
	for start := 0; ; start++ {
		served, cause := w.run(start)
		err := w.ended(cause, served)
		w.enter(Failed, func(s *State) { s.LastErr = err })
		w.answerReady(err)
		switch {
		case w.isClosing():
			return
		case errors.Is(cause, errRestart):
			w.config.Log.Info("the HSM's process was killed because a restart was asked for", zap.Error(cause))
			continue
		}
		pause, again := retry.after(err, served, rand.Float64())
		if !w.rest(err, pause, again) {
			return
		}
	}
}

// run is the life of one process, from its start until it is buried. It returns
// for how long the process served (0 if its token never was open), and why it ended.
func (w *Worker) run(start int) (time.Duration, error) {
	w.enter(Starting, nil)
	select {
	case <-w.restart: // this start is what it asked for
	default:
	}
	p, err := startProcess(w.config)
	if err != nil {
		return 0, err
	}
	w.set(func(s *State) { s.PID, s.Restarts = p.pid, start })
	defer w.set(func(s *State) { s.PID, s.Sessions = 0, 0 })
	l := newLink(w.config.Name, p.conn, w.config.MaxInFlight)
	go l.read()

	began := time.Now()
	opened, err := w.open(l, p)
	if err != nil {
		return 0, w.bury(l, p, err)
	}
	ready := time.Now()
	w.config.Log.Info("the HSM's process is ready", zap.Int("pid", p.pid), zap.Int("sessions", opened.Sessions),
		zap.Duration("took", ready.Sub(began)), zap.String("token", opened.Info.Label), zap.String("serial", opened.Info.Serial))
	w.serve(l, opened)
	err = w.watch(l, p, w.config.maxHung(opened.Sessions))
	w.link.Store(nil)
	return time.Since(ready), w.bury(l, p, err)
}

// serve lets calls in.
func (w *Worker) serve(l *link, r ready) {
	w.mu.Lock()
	w.info = r.Info
	w.mu.Unlock()
	w.enter(Running, func(s *State) { s.Sessions = r.Sessions })
	w.link.Store(l)
	w.answerReady(nil)
}

// open hands over the settings and waits until the token is open.
func (w *Worker) open(l *link, p *process) (ready, error) {
	err := l.hello(hello{
		Protocol: protocolVersion, Build: build(), MaxInFlight: w.config.MaxInFlight,
		HangTimeout: w.config.HangTimeout, Settings: w.config.Settings,
	})
	if err != nil {
		return ready{}, err
	}
	timer := time.NewTimer(w.config.StartTimeout)
	defer timer.Stop()
	select {
	case o := <-l.opened:
		return o.ready, o.err
	case <-l.gone:
	case <-p.exited:
		// What it said last may still be in the socket.
		select {
		case <-l.gone:
		case <-time.After(exitTime):
		}
	case <-timer.C:
		return ready{}, fmt.Errorf("its process did not open the token within %v", w.config.StartTimeout)
	case reason := <-w.restart:
		return ready{}, fmt.Errorf("%w: %s", errRestart, reason)
	case <-w.closing:
		return ready{}, errClosing
	}
	select {
	case o := <-l.opened:
		return o.ready, o.err
	default:
		return ready{}, l.failure()
	}
}

// watch judges a process that is ready, until it has to go: it died, does not
// answer, has too many hung calls, or is not wanted any more.
func (w *Worker) watch(l *link, p *process, maxHung int) error {
	closing := w.closing
	pings := newPinger(w.config, l.ping)
	defer pings.stop()
	for {
		select {
		case <-l.gone:
			return l.failure()
		case <-p.exited:
			return errGone
		case reason := <-w.restart:
			return fmt.Errorf("%w: %s", errRestart, reason)
		case <-closing:
			closing = nil
			w.link.Store(nil) // no new calls; those in flight are finished first
			_ = l.goodbye()   // if it cannot be sent, the process is killed in the end
		case <-w.kill:
			return errClosing
		case pong := <-l.pongs:
			pings.answered()
			w.set(func(s *State) { s.Busy, s.Hung = pong.Busy, pong.Hung })
			if pong.Hung >= maxHung {
				return fmt.Errorf("%d calls hang in the HSM for longer than %v, the oldest for %v", pong.Hung, w.config.HangTimeout, pong.Oldest)
			}
		case <-pings.timer.C:
			if pings.expired() {
				return fmt.Errorf("its process did not answer a ping within %v", w.config.PingTimeout)
			}
		}
	}
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
			return fmt.Errorf("its process %d closed the connection and ended (%s)", p.pid, p.how())
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

// ended makes the *hsm.Error that says why there is no process.
func (w *Worker) ended(cause error, served time.Duration) error {
	var e *hsm.Error
	if errors.As(cause, &e) {
		return cause
	}
	op := "start"
	if served > 0 {
		op = "serve"
	}
	return &hsm.Error{HSM: w.config.Name, Op: op, Kind: hsm.ErrUnavailable, Detail: cause.Error()}
}

// rest waits before the next start. It reports false if there will be none.
func (w *Worker) rest(err error, pause time.Duration, again bool) bool {
	var alarm <-chan time.Time // nil, so never, if only an operator can help
	if again {
		w.set(func(s *State) { s.RetryAt = time.Now().Add(pause) })
		w.config.Log.Error("the HSM's process ended and will be started again", zap.Error(err), zap.Duration("in", pause))
		timer := time.NewTimer(pause)
		defer timer.Stop()
		alarm = timer.C
	} else {
		w.config.Log.Error("the HSM's process will not be started again, since HSMs lock when a wrong PIN is repeated: correct the PIN, then restart xks-proxy", zap.Error(err))
	}
	select {
	case <-alarm:
		return true
	case <-w.restart:
		return true
	case <-w.closing:
		return false
	}
}

// answerReady settles Ready, the first time it is called.
func (w *Worker) answerReady(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.first:
	default:
		w.firstErr = err
		close(w.first)
	}
}

func (w *Worker) isClosing() bool {
	select {
	case <-w.closing:
		return true
	default:
		return false
	}
}
