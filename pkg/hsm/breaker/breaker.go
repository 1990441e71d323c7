// Package breaker is how one HSM is doing: whether it gets requests, how long it takes, how long a
// request would wait for it, and which keys fail on it.
package breaker

// Standing: whether an HSM gets requests. A few faults in a row or a failed probe take
// it out; a call that goes without an answer makes it suspected; only a probe brings it back, and
// then step by step.

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

const (
	// FaultsToGoOut is how many faults in a row take an HSM out.
	FaultsToTrip = 3
	// returnTime is how long an HSM that came back takes to get its full share of
	// the requests: what fails again must not fail on all of them at once.
	rampUpTime = 3 * time.Second
	// steadyTime in service makes earlier trips forgotten.
	stableTime = time.Minute
	// An HSM that goes out again before it was steady stays out for at least
	// minPenalty, twice as long each time, up to maxPenalty: one whose probes pass while
	// requests fail would otherwise go in and out forever.
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// Standing is read by every request without a lock.
type Breaker struct {
	Out          atomic.Bool
	Suspect      atomic.Bool // a call has no answer; passed over until a probe succeeds
	Drained      atomic.Bool // by an operator
	Unresponsive atomic.Bool // a call had no answer in time, and none was in time since
	faults       atomic.Int32
	Returned     atomic.Pointer[time.Time] // when it came back; nil: it has its full share

	mu        sync.Mutex // guards what follows
	Since     time.Time  // of the state
	reason    string     // why it is out
	backoff   time.Duration
	notBefore time.Time // a probe does not bring it back earlier
	healthyAt time.Time // while it is out: when it last was not, or a probe found it well
	trips     uint64

	suspectedAt time.Time // when suspect was set
	suspicion   string    // and why
}

// Serves reports whether the HSM is neither out, suspected nor drained.
func (s *Breaker) InService() bool {
	return !s.Out.Load() && !s.Suspect.Load() && !s.Drained.Load()
}

// Note counts the result of a call. It reports whether the HSM should go out.
func (s *Breaker) Record(err error) bool {
	switch {
	case !hsm.IsFault(err):
		if s.faults.Load() != 0 {
			s.faults.Store(0)
		}
		return false
	case errors.Is(err, hsm.ErrBusy):
		return false // busy is not broken
	}
	return s.faults.Add(1) >= FaultsToTrip && !s.Out.Load()
}

// Trip takes the HSM out. It reports whether it was in, and for how long at
// least it stays out.
func (s *Breaker) Trip(reason string, now time.Time) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Out.Load() {
		s.reason = reason
		return 0, false
	}
	switch {
	case s.trips == 0 || now.Sub(s.Since) > stableTime:
		s.backoff = 0
	default:
		s.backoff = min(max(2*s.backoff, minBackoff), maxBackoff)
	}
	s.trips++
	stay := s.backoff - time.Duration(rand.Float64()*float64(s.backoff)/4)
	s.Since, s.reason, s.notBefore, s.healthyAt = now, reason, now.Add(stay), now
	s.Out.Store(true)
	return stay, true
}

// Absent takes out an HSM that was never in service, or is drained: the first probe
// that succeeds puts it in at once, and it is not counted.
func (s *Breaker) MarkAbsent(reason string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Out.Load() {
		s.reason = reason
		return
	}
	s.Since, s.reason = now, reason
	s.Out.Store(true)
}

// Pass is what a probe that succeeded does. It reports whether the HSM came back.
func (s *Breaker) ProbeSucceeded(now time.Time) bool {
	s.Suspect.Store(false)
	if !s.Out.Load() {
		return false // faults go on counting: probes may pass while every request fails
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healthyAt = now
	if now.Before(s.notBefore) {
		return false
	}
	s.faults.Store(0)
	if s.trips > 0 {
		s.Returned.Store(&now)
	}
	s.Since, s.reason = now, ""
	s.Out.Store(false)
	return true
}

// Share is how much of its part of the requests an HSM gets, from 0 to 1.
func (s *Breaker) Share(now time.Time) float64 {
	returned := s.Returned.Load()
	if returned == nil {
		return 1
	}
	elapsed := now.Sub(*returned)
	if elapsed >= rampUpTime {
		s.Returned.CompareAndSwap(returned, nil)
		return 1
	}
	return max(float64(elapsed)/float64(rampUpTime), 1.0/16)
}

// WasWell reports whether the HSM serves, or was well within the time given.
func (s *Breaker) WasHealthy(within time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.Out.Load() || now.Sub(s.healthyAt) < within
}

// Service is the state in words, since when, and why.
func (s *Breaker) Service(now time.Time) (status.Service, time.Time, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.Drained.Load():
		return status.Drained, s.Since, "drained by an operator"
	case s.Out.Load():
		return status.Out, s.Since, s.reason
	case s.Suspect.Load():
		return status.Suspected, s.suspectedAt, s.suspicion
	case s.Share(now) < 1:
		return status.Returning, s.Since, ""
	}
	return status.InService, s.Since, ""
}

// Drain begins or ends what an operator asked for.
func (s *Breaker) SetDrained(on bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Drained.Swap(on) != on {
		s.Since = now
	}
}

// TripCount is how often the HSM was taken out of service.
func (s *Breaker) TripCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trips
}

// SuspectNow reports whether this is news.
func (s *Breaker) MarkSuspect(why string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Suspect.Load() {
		return false
	}
	s.suspectedAt, s.suspicion = now, why
	s.Suspect.Store(true)
	return true
}

// KeptOutUntil is until when no probe brings the HSM back; zero if one would now.
func (s *Breaker) BackoffUntil(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Out.Load() || !now.Before(s.notBefore) {
		return time.Time{}
	}
	return s.notBefore
}

// Unasked is the rank of an HSM that gets no requests.
const NotEligible = 4

// Rank orders HSMs as pick chooses them: one that has come back gets only a share of the requests
// at first.
func (s *Breaker) Rank() int {
	switch {
	case s.Drained.Load():
		return NotEligible
	case s.Out.Load():
		return 3
	case s.Suspect.Load():
		return 2
	case s.Returned.Load() != nil:
		return 1
	}
	return 0
}
