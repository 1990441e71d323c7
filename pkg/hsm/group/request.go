package group

// One request and the HSMs that it asks. The first call runs in the caller's goroutine. After a
// fault the next HSM is asked at once (failover). If an answer is slow, a second HSM is asked as
// well and the first good answer wins (hedging). If all failed quickly they are asked again while
// time remains: a crashed process is back in some 20 ms.

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/decide"
	"xks-proxy/pkg/hsm/status"
)

// recentOutage is how long after an HSM went out requests wait for its return.
const recentOutage = time.Second

// operation is what an HSM is asked to do. discard receives answers that came too late.
type operation[T any] struct {
	call    func(context.Context, hsm.Token) (T, error)
	discard func(T)
	need    hsm.Usage // CanEncrypt or CanDecrypt

	verifies bool // the ciphertext is known to be good
}

// request is one Encrypt or Decrypt in progress. Its runners ask one HSM after the other: the first
// is the caller's goroutine, the others are hedges.
type request[T any] struct {
	g     *Group
	op    operation[T]
	ref   hsm.KeyRef
	avoid []string

	outer context.Context // context of the request
	ctx   context.Context // also ends when there is an answer
	stop  context.CancelFunc

	runners sync.WaitGroup // hedges

	mu            sync.Mutex
	remaining     catalogue.Set // not asked yet in this round
	inFlight      catalogue.Set // being asked
	overdue       catalogue.Set // of inFlight, those past the attempt timeout
	faulty        catalogue.Set // had a fault: a request counts at most one fault against an HSM
	crashes       int           // processes that ended during the request
	hedged        bool
	starting      bool // a hedge that has not asked an HSM yet
	availableOnly bool // the hedge asks only available HSMs
	settled       bool
	answer        T
	err           error // if settled: an error of the request
	refusal       error // if not settled: an error of the request that another HSM may not have
	refusals      refusals
	trace         Trace
}

func serve[T any](
	ctx context.Context,
	g *Group,
	ref hsm.KeyRef,
	apart []string,
	op operation[T],
) (T, Trace, error) {
	g.hedges.Earn()
	r := &request[T]{g: g, op: op, ref: ref, avoid: apart, outer: ctx}
	r.ctx, r.stop = context.WithCancel(ctx)
	defer r.stop()
	for round := 0; ; round++ {
		r.remaining, r.hedged = g.holders(ref)&^r.refusals.by, false
		r.run(false)
		// Hedges use the caller's buffers, so none may remain. Each ends soon after the request is
		// settled (Token: a call returns when its context ends).
		r.runners.Wait()
		if r.settled {
			return r.answer, r.trace, r.err
		}
		if !r.nextRound(round) {
			var none T
			return none, r.trace, r.giveUp()
		}
	}
}

// nextRound reports whether to ask the HSMs again, after the pause that it makes.
func (r *request[T]) nextRound(round int) bool {
	left := r.g.holders(r.ref) &^ r.refusals.by
	faults := r.trace.Faults
	failed := decide.FailedRound{
		Number: round, Crashes: r.crashes,
		Refused: r.refusals.by != 0, Unproven: r.refusals.unprovenBy != 0,
		Transient: len(faults) > 0 && !hsm.AllOf(faults, hsm.ErrBusy) &&
			!hsm.AllOf(faults, hsm.ErrKeyFault),
		Remaining: left, Available: r.g.available(left), Recent: r.g.anyRecentlyHealthy(left),
		Pause: pauseAfter(round), Time: r.timeLeft(),
	}
	next, _ := failed.Next()
	if next == decide.GiveUp {
		return false
	}
	timer := time.NewTimer(failed.Pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.outer.Done():
		return false
	}
}

// pauseAfter returns the pause before a round: up to a quarter less than decide.RoundPauses, so
// that many requests do not retry at the same moment.
func pauseAfter(round int) time.Duration {
	if round >= len(decide.RoundPauses) {
		return 0
	}
	pause := decide.RoundPauses[round]
	return pause - time.Duration(rand.Float64()*float64(pause)/4)
}

// timeLeft returns the time until the deadline of the request, or the group's budget if it has
// none.
func (r *request[T]) timeLeft() time.Duration {
	deadline, ok := r.outer.Deadline()
	if !ok {
		return r.g.config.Budget
	}
	return time.Until(deadline)
}

// run asks HSMs until one answers or none is left.
func (r *request[T]) run(hedge bool) {
	for {
		m := r.next(hedge)
		if m == nil {
			return
		}
		answer, err := r.attempt(m)
		if r.record(m, answer, err) {
			r.stop()
			return
		}
	}
}

// next returns the next HSM to ask, or nil if there is none or no need.
func (r *request[T]) next(hedge bool) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting = r.starting && !hedge
	for {
		left := r.g.undrained(r.remaining)
		if hedge && r.availableOnly || r.refusals.by != 0 {
			left = r.g.available(left)
		}
		able := left
		left = r.g.preferred(left, r.ref, r.op.need)
		if left == 0 && able != 0 {
			r.addFault(
				&hsm.Error{
					HSM:    strings.Join(r.g.parity.NamesOf(able), ", "),
					Op:     "serve",
					Kind:   hsm.ErrKeyFault,
					Detail: notVerified,
				},
			)
		}
		if r.settled || left == 0 || r.ctx.Err() != nil || r.crashes >= decide.MaxCrashes {
			r.hedged = r.hedged && !hedge // this hedge asked nobody
			return nil
		}
		m := r.g.pick(r.g.avoiding(left, r.avoid))
		r.remaining &^= m.bit
		m.inFlight.Add(1) // before reading Drained: Drain does it in the other order
		if !m.breaker.Drained.Load() {
			r.count(m, hedge)
			return m
		}
		m.inFlight.Add(-1)
	}
}

// count records one more attempt.
func (r *request[T]) count(m *member, hedge bool) {
	if r.trace.Attempts > 0 && !hedge {
		r.g.retries.Add(1)
	}
	r.inFlight |= m.bit
	r.trace.Attempts++
	if hedge {
		r.trace.Hedges++
	}
	m.requests.Add(1)
}

// record handles the result of a call and reports whether the request is settled.
func (r *request[T]) record(m *member, answer T, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight &^= m.bit
	r.overdue &^= m.bit
	switch {
	case r.settled:
		if err == nil {
			r.op.discard(answer)
		}
	case errors.Is(err, hsm.ErrKeyNotFound):
		r.refusal = hsm.WithHSM(err, m.Name)
		wake(m.refresh)
	case errors.Is(err, hsm.ErrDuplicateKey), errors.Is(err, hsm.ErrTooLarge): // on this HSM
		r.refusal = hsm.WithHSM(err, m.Name)
	case errors.Is(err, hsm.ErrKeyFault):
		r.addFault(hsm.WithHSM(err, m.Name))
	case r.op.need == hsm.CanDecrypt && decide.RefusalOf(err) != decide.NoRefusal:
		r.addRefusal(m, err)
	case hsm.IsFault(err):
		if errors.Is(err, hsm.ErrCrashed) {
			r.crashes++
		}
		if !errors.Is(r.outer.Err(), context.Canceled) || !errors.Is(err, hsm.ErrTimeout) {
			r.addFault(hsm.WithHSM(err, m.Name))
		}
	default:
		r.settled, r.answer, r.err = true, answer, hsm.WithHSM(err, m.Name)
		r.trace.HSM = m.Name
		r.g.recordRefusedUsage(m, r.ref, r.op.need, err)
		if err == nil && r.refusals.by != 0 { // two HSMs disagree
			r.g.CompareSoon(r.ref.Label)
		}
	}
	return r.settled
}

// attempt makes one call on one HSM and watches the time.
func (r *request[T]) attempt(m *member) (T, error) {
	w := attemptTimer[T]{request: r, member: m, start: time.Now()}
	incarnation := m.incarnation()
	if incarnation != m.admitted.Load() {
		r.g.admit(m)
	}
	// Another request may have admitted a new token since this one picked the HSM.
	if r.op.need == hsm.CanEncrypt && r.g.trusted(m.bit, r.ref) == 0 {
		m.inFlight.Add(-1)
		var none T
		return none, &hsm.Error{Op: "serve", Kind: hsm.ErrKeyFault, Detail: notVerified}
	}
	w.begin()
	inFlight := m.waiting()
	answer, err := r.op.call(r.ctx, m.Token)
	m.inFlight.Add(-1)
	w.end()
	if m.incarnation() != incarnation && isKeyVerdict(err) {
		if err == nil {
			r.op.discard(answer)
		}
		var none T
		answer, err = none, replacedError("serve")
	}
	r.g.recordKeyResult(m, r.ref, r.op.need, err)
	switch took := time.Since(w.start); {
	case !errors.Is(err, hsm.ErrTimeout):
		m.latency.Add(took)
		m.answered(took < r.g.config.AttemptTimeout)
		if !hsm.IsFault(err) {
			m.queue.Record(took, inFlight, false)
		}
	case r.ctx.Err() == nil:
		// The HSM itself reports a timeout.
	default:
		// The time was up: another HSM was faster, the caller hung up, or this HSM hangs, which the
		// timer has recorded. The elapsed time is a lower bound of the latency.
		m.queue.Record(took, inFlight, true)
		if r.outer.Err() == nil {
			m.latency.Add(took)
			if took >= w.delay {
				r.g.overtaken(m, took)
			}
		}
		return answer, err
	}
	if !hsm.IsFault(err) || r.firstFault(m) {
		r.g.recordResult(m, err)
	}
	return answer, err
}

func (r *request[T]) firstFault(m *member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.faulty&m.bit == 0
	r.faulty |= m.bit
	return first
}

// askAnother asks another HSM beside the slow one if decide.SlowCall says so.
func (r *request[T]) askAnother(slow *member, overdue bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if overdue {
		r.overdue |= slow.bit
	}
	call := r.slowCall(slow, overdue)
	next, why := call.Next()
	if next != decide.AskAnother {
		return
	}
	if why == decide.Hedge && !r.g.hedges.Spend() {
		r.g.hedgesDenied.Add(1)
		return
	}
	r.remaining |= call.Others
	r.hedged, r.starting, r.availableOnly = true, true, why != decide.LastResort
	r.g.hedgesMade.Add(1)
	r.runners.Go(func() { r.run(true) })
}

// slowCall collects the state of a slow call. Requires r.mu.
func (r *request[T]) slowCall(slow *member, overdue bool) decide.SlowCall {
	others := r.remaining &^ slow.bit
	if others == 0 { // those that failed may be asked again
		others = r.g.available(r.g.holders(r.ref) &^ r.inFlight)
	}
	within := r.timeLeft()
	if overdue {
		within = min(within, r.g.config.AttemptTimeout/2)
	}
	return decide.SlowCall{
		Ended:     r.settled || r.ctx.Err() != nil,
		Hedged:    r.hedged && (r.starting || r.inFlight&^r.overdue != 0),
		Overdue:   overdue,
		Failing:   slow.breaker.Out.Load() && slow.health.Load().Status == status.Unavailable,
		Others:    others,
		Available: r.g.available(others),
		Fast:      r.g.fastMembers(others, within, overdue),
		Free:      r.g.withFreeSession(others),
	}
}

// addFault records what an HSM said, without duplicates.
func (r *request[T]) addFault(err error) {
	text := err.Error()
	for _, known := range r.trace.Faults {
		if known.Error() == text {
			return
		}
	}
	r.trace.Faults = append(r.trace.Faults, err)
}
