package worker

// The supervisor: one goroutine that keeps a process running, and decides when the
// next one is started.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
)

// Reasons for the end of a process that lie with the parent.
var (
	errClosing = errors.New("closed")
	errRestart = errors.New("restarted")
	errRenewed = errors.New("its process was replaced")
)

func (w *Worker) supervise() {
	defer close(w.done)
	defer w.endReplacement()
	defer w.enter(Closed, nil)
	if w.config.Held != nil {
		w.fail(w.config.Held)
		if !w.hold(w.config.Held) {
			return
		}
	}
	retry := retry{min: w.config.BackoffMin, max: w.config.BackoffMax}
	for {
		served, cause := w.run()
		if !errors.Is(cause, errMemory) {
			w.endReplacement()
		}
		err := w.ended(cause, served)
		w.fail(err)
		switch {
		case w.isClosing():
			return
		case errors.Is(cause, errRestart):
			w.config.Log.Info("the HSM's process was killed because a restart was asked for", zap.Error(cause))
			w.asked = true
			continue
		}
		pause, again := retry.after(err, served, rand.Float64())
		if again {
			w.complain(err, served, pause)
			again = w.rest(pause)
		} else {
			again = w.hold(err)
		}
		if !again {
			return
		}
	}
}

// fail makes known that there is no process, and why.
func (w *Worker) fail(err error) {
	w.enter(Failed, func(s *State) { s.LastErr, s.EndedAt = err, time.Now() })
	w.changed.tell()
	w.answerReady(err)
}

// run is the life of one process, from its start until it is buried. It returns
// for how long the process served (0 if its token never was open), and why it ended.
func (w *Worker) run() (time.Duration, error) {
	w.enter(Starting, nil)
	select {
	case <-w.restart: // this start is what it asked for
		w.asked = true
	default:
	}
	err := w.refresh()
	if err != nil {
		return 0, err
	}
	p, err := startProcess(w.config, w.stderrLevel())
	if err != nil {
		return 0, err
	}
	w.set(func(s *State) { s.PID, s.Restarts, s.PINRefused = p.pid, w.started, false })
	w.started++
	defer w.set(func(s *State) { s.PID, s.Sessions = 0, 0 })
	l := newLink(w.config.Name, p.conn, w.config.MaxInFlight)
	go l.read()

	began := time.Now()
	memory := newMemoryWatch(p.pid, w.config.MemoryLimit)
	defer memory.ticker.Stop()
	opened, err := w.open(l, p, memory)
	if isRefusal(err) {
		w.config.OnPIN(err)
	}
	if err != nil {
		return 0, w.bury(l, p, err)
	}
	w.config.OnPIN(nil)
	ready := time.Now()
	w.opening.took(ready.Sub(began))
	w.config.Log.Info("the HSM's process is ready", zap.Int("pid", p.pid), zap.Int("sessions", opened.Sessions),
		zap.Duration("took", ready.Sub(began)), zap.String("token", opened.Info.Label), zap.String("serial", opened.Info.Serial))
	w.serve(l, opened)
	err = w.watch(l, p, memory, w.config.maxHung(opened.Sessions))
	w.link.Store(nil)
	return time.Since(ready), w.remember(l, w.bury(l, p, err))
}

// remember makes a PIN that was refused while the process ran the reason of its end, whatever ended it,
// so that no other process tries the PIN.
func (w *Worker) remember(l *link, cause error) error {
	select {
	case refusal := <-l.refusals: // too late for watch
		w.refused(refusal)
	default:
	}
	refusal := l.refusal()
	if refusal == nil || errors.Is(cause, errRestart) {
		return cause
	}
	e := *refusal
	e.Detail = fmt.Sprintf("%s; its process ended later: %v", e.Detail, cause)
	return &e
}

// serve lets calls in.
func (w *Worker) serve(l *link, r ready) {
	w.mu.Lock()
	w.info = r.Info
	w.mu.Unlock()
	w.enter(Running, func(s *State) { s.Sessions = r.Sessions })
	select {
	case <-w.renew: // it was about an earlier process
	default:
	}
	w.opened.Add(1) // before calls can reach the process
	w.link.Store(l)
	w.changed.tell()
	w.answerReady(nil)
	w.endReplacement()
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
func (w *Worker) rest(pause time.Duration) bool {
	w.set(func(s *State) { s.RetryAt = time.Now().Add(pause) })
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.restart:
		w.asked = true
		return true
	case <-w.closing:
		return false
	}
}

// hold waits for an operator: err is a refused PIN, and HSMs lock when a wrong one is
// repeated. It reports false if the worker is closed meanwhile.
func (w *Worker) hold(err error) bool {
	w.set(func(s *State) { s.PINRefused = true })
	w.config.Log.Error("the HSM's process will not be started again, since HSMs lock when a wrong PIN is repeated: correct the PIN, then run xks-proxy hsm restart "+w.config.Name+", or start the proxy again if it has ended", zap.Error(err))
	select {
	case <-w.restart:
		w.asked = true
		return true
	case <-w.closing:
		return false
	}
}

// refresh gets the settings anew for a start that an operator asked for, who may have
// corrected the PIN. It fails only where the old ones must not be used.
func (w *Worker) refresh() error {
	asked := w.asked
	w.asked = false
	if !asked || w.config.Refresh == nil {
		return nil
	}
	settings, err := w.config.Refresh()
	if err == nil {
		err = checkSettings(settings)
	}
	switch {
	case err == nil:
		w.settings = settings
	case w.State().PINRefused:
		return &hsm.Error{HSM: w.config.Name, Op: "start", Kind: hsm.ErrPINIncorrect,
			Detail: fmt.Sprintf("it was the old one, and a new one cannot be read: %v", err)}
	default:
		w.config.Log.Error("the HSM's settings and PIN cannot be read anew; the old ones are used", zap.Error(err))
	}
	return nil
}

// refused takes note of a PIN that was refused while the process runs, because somebody changed
// it on the HSM. The process goes on; no other tries that PIN.
func (w *Worker) refused(err error) {
	w.set(func(s *State) { s.PINRefused = true })
	w.config.Log.Error("the HSM refused the PIN, which is not tried again: correct the PIN, then run xks-proxy hsm restart "+w.config.Name, zap.Error(err))
	w.config.OnPIN(err)
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
