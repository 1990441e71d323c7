// Package decide holds the decisions of one request as pure functions: how it continues when an HSM
// is slow or all of them failed, and whether a ciphertext is proven to be invalid.
package decide

// What a request does next: ask another HSM, wait, or give up. Package group collects the state and
// carries out the decision.

import (
	"time"

	"xks-proxy/pkg/hsm/catalogue"
)

// step is what a request does next.
type step uint8

const (
	wait       step = iota // for pending answers
	AskAnother             // ask another HSM, now or after a pause
	GiveUp
)

// reason is why.
type reason string

// SlowCall is the state of a request when a call has no answer yet.
type SlowCall struct {
	Ended   bool // there is an answer, or the time of the request is up
	Hedged  bool // another HSM is being asked and may still answer in time
	Overdue bool // the attempt timeout has passed
	Failing bool // the HSM is out of service and its probes fail

	Others    catalogue.Set // HSMs that may hold the key and are not being asked
	Available catalogue.Set // of Others, those that should answer
	Fast      catalogue.Set // of Available, those that will probably answer in the remaining time
	Free      catalogue.Set // of Others, those with a free session
}

// The reasons of SlowCall.Next.
const (
	ended         reason = "the request has ended"
	noOtherHolder reason = "no other HSM holds the key"
	alreadyHedged reason = "another HSM is being asked"
	LastResort    reason = "no HSM can be expected to answer: one with a free session is tried"
	noFasterHSM   reason = "no other HSM would be quicker"
	failover      reason = "failover: the call is overdue"
	Hedge         reason = "hedge: the call is slow"
)

// Next returns wait or AskAnother. A hedge is a guess, so it needs the group's hedge budget; the
// caller waits if that is spent. A failover needs no budget. Neither does the last resort, but it
// only goes to a free session, because an overloaded pair must not get twice the load.
func (s SlowCall) Next() (step, reason) {
	switch {
	case s.Ended:
		return wait, ended
	case s.Others == 0:
		return wait, noOtherHolder
	case s.Hedged:
		return wait, alreadyHedged
	case s.Overdue && s.Failing && s.Available == 0 && s.Free != 0:
		return AskAnother, LastResort
	case s.Fast == 0:
		return wait, noFasterHSM
	case s.Overdue:
		return AskAnother, failover
	}
	return AskAnother, Hedge
}

// RoundPauses are the pauses before all HSMs are asked again. Their sum is longer than the start of
// a new process takes on a busy machine.
var RoundPauses = [...]time.Duration{
	2 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	50 * time.Millisecond,
}

const (
	// MaxCrashes is how many processes may end during one request. The request may be the cause,
	// through a fault of the module, and must not end them again and again.
	MaxCrashes = 3
	// minTime is what another round needs of the time of the request.
	minTime = 5 * time.Millisecond
	// unprovenRounds is how often a ciphertext that was refused without proof is tried again. The
	// token has repeated the call itself.
	unprovenRounds = 1
)

// FailedRound is the state of a request when every HSM that it could ask failed.
type FailedRound struct {
	Number    int  // from 0
	Crashes   int  // processes that ended during the request
	Refused   bool // an HSM refused the ciphertext: only a second verdict is needed
	Unproven  bool // an HSM refused it without proof: it may be busy
	Transient bool // a fault may pass soon: not only busy HSMs or a failing key

	Remaining catalogue.Set // HSMs that may hold the key and have no verdict yet
	Available catalogue.Set // of Remaining, those that should answer
	Recent    bool          // one of Remaining is in service or was a moment ago
	Pause     time.Duration // before the next round
	Time      time.Duration // until the deadline of the request
}

// The reasons of FailedRound.Next.
const (
	roundLimit      reason = "the HSMs were asked often enough"
	crashLimit      reason = "the request may be what ends the processes"
	noHSMLeft       reason = "no HSM is left to ask"
	noSecondVerdict reason = "no second verdict can be had"
	notTransient    reason = "the HSMs are busy, or it is the key: asking again does not help"
	longOutage      reason = "the outage lasts: requests fail fast"
	noTime          reason = "the time of the request does not allow another round"
	transientFault  reason = "the fault may pass"
	possiblyBusy    reason = "the refusal may mean that the HSM is busy"
)

// Next returns AskAnother, after the pause of this round, or GiveUp.
func (f FailedRound) Next() (step, reason) {
	again := transientFault
	switch {
	case f.Number >= len(RoundPauses):
		return GiveUp, roundLimit
	case f.Crashes >= MaxCrashes:
		return GiveUp, crashLimit
	case f.Remaining == 0:
		return GiveUp, noHSMLeft
	case f.Refused && f.Available == 0:
		return GiveUp, noSecondVerdict
	case f.Unproven && f.Number < unprovenRounds:
		again = possiblyBusy
	case !f.Transient:
		return GiveUp, notTransient
	case !f.Recent:
		return GiveUp, longOutage
	}
	if f.Time < f.Pause+minTime {
		return GiveUp, noTime
	}
	return AskAnother, again
}
