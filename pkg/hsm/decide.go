package hsm

// How a request goes on when an HSM is slow, and when all of them failed: whether it asks another
// HSM, waits, or gives up. Both decisions are pure functions of what the request knows at that
// moment; race.go gathers that and carries the decision out.

import "time"

// step is what a request does next.
type step uint8

const (
	wait       step = iota // for the answers that are still to come
	askAnother             // HSM, now or after a pause
	giveUp
)

// reason says why a step is taken.
type reason string

// slowCall is what a request knows when a call has no answer yet.
type slowCall struct {
	ended   bool // there is an answer, or the time of the request is up
	beside  bool // another HSM, which may still answer in time, is being asked
	overdue bool // it lasts longer than the attempt timeout, and not only longer than usual
	failing bool // its HSM is out of service, and the probes of it fail

	others memberSet // HSMs that may hold the key and are not being asked
	able   memberSet // of these, those that can be expected to answer
	quick  memberSet // of these, those that probably answer in the time that is left
	free   memberSet // of others, those with a free session
}

// The reasons for what is done about a slow call.
const (
	hasEnded    reason = "the request has ended"
	nobodyElse  reason = "no other HSM holds the key"
	besideSlow  reason = "another HSM is being asked"
	lastResort  reason = "no HSM can be expected to answer: one with a free session is tried"
	nobodyQuick reason = "no other HSM would be quicker"
	failover    reason = "failover: the call is overdue"
	hedge       reason = "hedge: the call is slow"
)

// next is wait or askAnother. A hedge is a guess, for which the group has a budget: the caller
// waits if that is spent. A failover is not, and no budget holds it back. Nor is there one for the
// last resort; but then nobody waits in line: a pair that is overloaded has no use for twice the
// load.
func (s slowCall) next() (step, reason) {
	switch {
	case s.ended:
		return wait, hasEnded
	case s.others == 0:
		return wait, nobodyElse
	case s.beside:
		return wait, besideSlow
	case s.overdue && s.failing && s.able == 0 && s.free != 0:
		return askAnother, lastResort
	case s.quick == 0:
		return wait, nobodyQuick
	case s.overdue:
		return askAnother, failover
	}
	return askAnother, hedge
}

// roundPauses are the waits before all HSMs are asked again.
var roundPauses = [...]time.Duration{
	2 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
}

const (
	// crashesEnough: a request under which so many processes ended is not tried again. It may be
	// the cause, by a fault of the module that only it meets, and must not end them again and again.
	crashesEnough = 3
	// leastTime is what a further round needs of the request's time.
	leastTime = 5 * time.Millisecond
	// doubtRounds: a ciphertext that was refused without proof is tried so often again. The token
	// has repeated the call itself.
	doubtRounds = 1
)

// failedRound is what a request knows when every HSM that it could ask was asked in vain.
type failedRound struct {
	number  int  // from 0
	crashes int  // processes that ended under the request
	refused bool // an HSM has a verdict against the ciphertext: only a second verdict is wanted
	doubted bool // an HSM refused it without proof: a busy one may answer the next time
	passing bool // there was a fault that may pass soon: not only HSMs that are busy or a key that fails

	left   memberSet     // HSMs that may hold the key and have no verdict yet
	able   memberSet     // of these, those that can be expected to answer
	recent bool          // one of left is in service, or was a moment ago
	pause  time.Duration // before the next round
	time   time.Duration // until the deadline of the request
}

// The reasons for what is done after a round in vain.
const (
	roundsEnough  reason = "the HSMs were asked often enough"
	crashing      reason = "the request may be what ends the processes"
	nobodyLeft    reason = "no HSM is left to ask"
	noSecond      reason = "no second verdict can be had"
	nothingPasses reason = "the HSMs are busy, or it is the key: asking again does not help"
	longOutage    reason = "the outage lasts: requests fail fast"
	noTime        reason = "the time of the request does not allow another round"
	mayPass       reason = "the fault may pass"
	mayBeBusy     reason = "the refusal may mean that the HSM is busy"
)

// next is askAnother, after the pause of this round, or giveUp.
func (f failedRound) next() (step, reason) {
	again := mayPass
	switch {
	case f.number >= len(roundPauses):
		return giveUp, roundsEnough
	case f.crashes >= crashesEnough:
		return giveUp, crashing
	case f.left == 0:
		return giveUp, nobodyLeft
	case f.refused && f.able == 0:
		return giveUp, noSecond
	case f.doubted && f.number < doubtRounds:
		again = mayBeBusy
	case !f.passing:
		return giveUp, nothingPasses
	case !f.recent:
		return giveUp, longOutage
	}
	if f.time < f.pause+leastTime {
		return giveUp, noTime
	}
	return askAnother, again
}
