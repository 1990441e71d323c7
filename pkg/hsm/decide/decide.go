// Package decide holds the decisions of one request as pure functions: how it goes on when an HSM
// is
// slow or all of them failed, and whether a ciphertext is proven to be bad.
package decide

// How a request goes on when an HSM is slow, and when all of them failed: whether it asks another
// HSM, waits, or gives up. Both decisions are pure functions of what the request knows at that
// moment; race.go gathers that and carries the decision out.

import (
	"time"

	"xks-proxy/pkg/hsm/catalogue"
)

// step is what a request does next.
type step uint8

const (
	wait       step = iota // for the answers that are still to come
	AskAnother             // HSM, now or after a pause
	GiveUp
)

// reason says why a step is taken.
type reason string

// SlowCall is what a request knows when a call has no answer yet.
type SlowCall struct {
	Ended   bool // there is an answer, or the time of the request is up
	Hedged  bool // another HSM, which may still answer in time, is being asked
	Overdue bool // it lasts longer than the attempt timeout, and not only longer than usual
	Failing bool // its HSM is out of service, and the probes of it fail

	Others    catalogue.Set // HSMs that may hold the key and are not being asked
	Available catalogue.Set // of these, those that can be expected to answer
	Fast      catalogue.Set // of these, those that probably answer in the time that is left
	Free      catalogue.Set // of others, those with a free session
}

// The reasons for what is done about a slow call.
const (
	ended         reason = "the request has ended"
	noOtherHolder reason = "no other HSM holds the key"
	alreadyHedged reason = "another HSM is being asked"
	LastResort    reason = "no HSM can be expected to answer: one with a free session is tried"
	noFasterHSM   reason = "no other HSM would be quicker"
	failover      reason = "failover: the call is overdue"
	Hedge         reason = "hedge: the call is slow"
)

// Next is wait or askAnother. A hedge is a guess, for which the group has a budget: the caller
// waits if that is spent. A failover is not, and no budget holds it back. Nor is there one for the
// last resort; but then nobody waits in line: a pair that is overloaded has no use for twice the
// load.
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

// RoundPauses are the waits before all HSMs are asked again. Together they are longer than the
// start
// of a new process, confinement included, takes on a busy machine.
var RoundPauses = [...]time.Duration{
	2 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	50 * time.Millisecond,
}

const (
	// CrashesEnough: a request under which so many processes ended is not tried again. It may be
	// the cause, by a fault of the module that only it meets, and must not end them again and
	// again.
	MaxCrashes = 3
	// leastTime is what a further round needs of the request's time.
	minTime = 5 * time.Millisecond
	// doubtRounds: a ciphertext that was refused without proof is tried so often again. The token
	// has repeated the call itself.
	unprovenRounds = 1
)

// FailedRound is what a request knows when every HSM that it could ask was asked in vain.
type FailedRound struct {
	Number    int  // from 0
	Crashes   int  // processes that ended under the request
	Refused   bool // an HSM has a verdict against the ciphertext: only a second verdict is wanted
	Unproven  bool // an HSM refused it without proof: a busy one may answer the next time
	Transient bool // there was a fault that may pass soon: not only HSMs that are busy or a key that fails

	Remaining catalogue.Set // HSMs that may hold the key and have no verdict yet
	Available catalogue.Set // of these, those that can be expected to answer
	Recent    bool          // one of left is in service, or was a moment ago
	Pause     time.Duration // before the next round
	Time      time.Duration // until the deadline of the request
}

// The reasons for what is done after a round in vain.
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

// Next is askAnother, after the pause of this round, or giveUp.
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
