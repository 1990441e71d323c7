package worker

// What a status page can know of a worker.

import (
	"time"
)

// Phase is where a worker is in its process's life.
type Phase string

// The phases.
const (
	Starting Phase = "starting" // the process is being started or opens its token
	Running  Phase = "running"
	Failed   Phase = "failed" // no process; another attempt follows, unless PINRefused
	Closed   Phase = "closed"
)

// State is a worker at one moment.
type State struct {
	Phase     Phase
	Since     time.Time // of the phase
	PID       int       // of the process; 0 if there is none
	Restarts  int       // processes started after the first
	Sessions  int       // of the process
	InFlight  int       // calls without a reply, those that nobody waits for included
	Busy      int       // sessions with a call in them, at the last ping
	Hung      int       // of these, longer than Config.HangTimeout
	Memory    int64     // bytes that the process has for itself; 0: not measured
	Overgrown int       // processes that were replaced because of Config.MemoryLimit
	LastErr   error     // why the last process ended or could not start, kept while the next one runs; nil if none did
	EndedAt   time.Time // of that
	RetryAt   time.Time // in phase failed: of the next attempt; zero if there will be none before Restart

	// Oldest is the age of the oldest call in a session at the last ping.
	Oldest time.Duration
	// PINRefused says that the HSM refused the PIN, or that it is held back (Config.Held): no
	// process is started before Restart. One that runs goes on as long as it can.
	PINRefused bool
}

// State tells how the worker is.
func (w *Worker) State() State {
	w.mu.Lock()
	s := w.state
	w.mu.Unlock()
	if l := w.link.Load(); l != nil {
		s.InFlight = l.inFlight()
	}
	return s
}

// set changes the state under its lock.
func (w *Worker) set(change func(*State)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.state)
}

func (w *Worker) enter(phase Phase, change func(*State)) {
	w.set(func(s *State) {
		s.Phase, s.Since, s.RetryAt = phase, time.Now(), time.Time{}
		s.Busy, s.Hung, s.Oldest, s.Memory = 0, 0, 0, 0
		if change != nil {
			change(s)
		}
	})
}
