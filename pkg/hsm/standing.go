package hsm

// Standing: whether an HSM gets requests. A few faults in a row or a failed probe take
// it out; a call that goes without an answer makes it suspected; only a probe brings it back, and then step by step.

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// faultsToGoOut is how many faults in a row take an HSM out.
	faultsToGoOut = 3
	// returnTime is how long an HSM that came back takes to get its full share of
	// the requests: what fails again must not fail on all of them at once.
	returnTime = 3 * time.Second
	// steadyTime in service makes earlier trips forgotten.
	steadyTime = time.Minute
	// An HSM that goes out again before it was steady stays out for at least
	// minPenalty, twice as long each time, up to maxPenalty: one whose probes pass while
	// requests fail would otherwise go in and out for ever.
	minPenalty = time.Second
	maxPenalty = 30 * time.Second
)

// standing is read by every request without a lock.
type standing struct {
	out      atomic.Bool
	suspect  atomic.Bool // a call has no answer; passed over until a probe succeeds
	drained  atomic.Bool // by an operator
	silent   atomic.Bool // a call had no answer in time, and none was in time since
	faults   atomic.Int32
	returned atomic.Pointer[time.Time] // when it came back; nil: it has its full share

	mu        sync.Mutex // guards what follows
	since     time.Time  // of the state
	reason    string     // why it is out
	penalty   time.Duration
	notBefore time.Time // a probe does not bring it back earlier
	well      time.Time // while it is out: when it last was not, or a probe found it well
	trips     uint64

	suspectedAt time.Time // when suspect was set
	suspicion   string    // and why
}

// serves reports whether the HSM is neither out, suspected nor drained.
func (s *standing) serves() bool {
	return !s.out.Load() && !s.suspect.Load() && !s.drained.Load()
}

// note counts the result of a call. It reports whether the HSM should go out.
func (s *standing) note(err error) bool {
	switch {
	case !IsFault(err):
		if s.faults.Load() != 0 {
			s.faults.Store(0)
		}
		return false
	case errors.Is(err, ErrBusy):
		return false // busy is not broken
	}
	return s.faults.Add(1) >= faultsToGoOut && !s.out.Load()
}

// trip takes the HSM out. It reports whether it was in, and for how long at
// least it stays out.
func (s *standing) trip(reason string, now time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Load() {
		s.reason = reason
		return 0, false
	}
	switch {
	case s.trips == 0 || now.Sub(s.since) > steadyTime:
		s.penalty = 0
	default:
		s.penalty = min(max(2*s.penalty, minPenalty), maxPenalty)
	}
	s.trips++
	stay := s.penalty - time.Duration(rand.Float64()*float64(s.penalty)/4)
	s.since, s.reason, s.notBefore, s.well = now, reason, now.Add(stay), now
	s.out.Store(true)
	return stay, true
}

// absent takes out an HSM that was never in service, or is drained: the first probe
// that succeeds puts it in at once, and it is not counted.
func (s *standing) absent(reason string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.Load() {
		s.reason = reason
		return
	}
	s.since, s.reason = now, reason
	s.out.Store(true)
}

// pass is what a probe that succeeded does. It reports whether the HSM came back.
func (s *standing) pass(now time.Time) bool {
	s.suspect.Store(false)
	if !s.out.Load() {
		return false // faults go on counting: probes may pass while every request fails
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.well = now
	if now.Before(s.notBefore) {
		return false
	}
	s.faults.Store(0)
	if s.trips > 0 {
		s.returned.Store(&now)
	}
	s.since, s.reason = now, ""
	s.out.Store(false)
	return true
}

// share is how much of its part of the requests an HSM gets, from 0 to 1.
func (s *standing) share(now time.Time) float64 {
	returned := s.returned.Load()
	if returned == nil {
		return 1
	}
	elapsed := now.Sub(*returned)
	if elapsed >= returnTime {
		s.returned.CompareAndSwap(returned, nil)
		return 1
	}
	return max(float64(elapsed)/float64(returnTime), 1.0/16)
}

// wasWell reports whether the HSM serves, or was well within the time given.
func (s *standing) wasWell(within time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.out.Load() || now.Sub(s.well) < within
}

// service is the state in words, since when, and why.
func (s *standing) service(now time.Time) (Service, time.Time, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.drained.Load():
		return Drained, s.since, "drained by an operator"
	case s.out.Load():
		return Out, s.since, s.reason
	case s.suspect.Load():
		return Suspected, s.suspectedAt, s.suspicion
	case s.share(now) < 1:
		return Returning, s.since, ""
	}
	return InService, s.since, ""
}

// drain begins or ends what an operator asked for.
func (s *standing) drain(on bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drained.Swap(on) != on {
		s.since = now
	}
}

// tripCount is how often the HSM was taken out of service.
func (s *standing) tripCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trips
}

// suspectNow reports whether this is news.
func (s *standing) suspectNow(why string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.suspect.Load() {
		return false
	}
	s.suspectedAt, s.suspicion = now, why
	s.suspect.Store(true)
	return true
}

// keptOutUntil is until when no probe brings the HSM back; zero if one would now.
func (s *standing) keptOutUntil(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.out.Load() || !now.Before(s.notBefore) {
		return time.Time{}
	}
	return s.notBefore
}

// unasked is the rank of an HSM that gets no requests.
const unasked = 4

// rank orders HSMs as pick chooses them: one that has come back gets only a share of the requests at first.
func (s *standing) rank() int {
	switch {
	case s.drained.Load():
		return unasked
	case s.out.Load():
		return 3
	case s.suspect.Load():
		return 2
	case s.returned.Load() != nil:
		return 1
	}
	return 0
}
