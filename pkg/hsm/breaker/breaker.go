// Package breaker holds the circuit breaker of one HSM and of single keys on it, estimates of its
// latency and queue, and the budget for hedged requests.
package breaker

// The circuit breaker of one HSM. A few faults in a row or a failed probe take the HSM out of
// service. A call without an answer makes it suspect. Only a probe brings it back, and then it gets
// a growing share of the requests.

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
	// FaultsToTrip is how many faults in a row take an HSM out.
	FaultsToTrip = 3
	// rampUpTime is how long an HSM that returned takes to get its full share of the requests, so
	// that a repeated failure does not affect all of them at once.
	rampUpTime = 3 * time.Second
	// stableTime in service resets the backoff.
	stableTime = time.Minute
	// An HSM that goes out again before it was stable stays out for at least minBackoff, twice as
	// long each time, up to maxBackoff. Without that, one whose probes pass while requests fail
	// would go in and out forever.
	minBackoff = time.Second
	maxBackoff = 30 * time.Second
)

// Breaker is the state of one HSM. Requests read it without a lock.
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

// InService reports whether the HSM is neither out, suspect nor drained.
func (s *Breaker) InService() bool {
	return !s.Out.Load() && !s.Suspect.Load() && !s.Drained.Load()
}

// Record counts the result of a call and reports whether the HSM should be taken out.
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

// Trip takes the HSM out. It returns the minimum time that the HSM stays out, and whether it was in
// service.
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

// MarkAbsent takes out an HSM that was never in service or is drained. It is not counted as a trip,
// and the first successful probe brings the HSM in at once.
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

// ProbeSucceeded ends suspicion and brings the HSM back after its backoff. It reports whether the
// HSM came back.
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

// Share returns the fraction of its requests that the HSM gets, from 0 to 1.
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

// WasHealthy reports whether the HSM is in service or was healthy within the time given.
func (s *Breaker) WasHealthy(within time.Duration, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.Out.Load() || now.Sub(s.healthyAt) < within
}

// Service returns the state, its start and its reason.
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

// SetDrained starts or ends draining by an operator.
func (s *Breaker) SetDrained(on bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Drained.Swap(on) != on {
		s.Since = now
	}
}

// TripCount returns how often the HSM was taken out of service.
func (s *Breaker) TripCount() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trips
}

// MarkSuspect makes the HSM suspect and reports whether it was not before.
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

// BackoffUntil returns the time before which no probe brings the HSM back, or zero.
func (s *Breaker) BackoffUntil(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.Out.Load() || !now.Before(s.notBefore) {
		return time.Time{}
	}
	return s.notBefore
}

// NotEligible is the rank of an HSM that gets no requests.
const NotEligible = 4

// Rank orders HSMs for a request, best first: in service, returning, suspect, out, drained.
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
