package group

// One request and the HSMs it asks. One is asked first, in the caller's own
// goroutine. A fault moves on to the next at once. When an answer is slow, a second HSM
// is asked as well and the first good answer wins. When all have failed quickly, they are
// asked again while the time lasts: a process that crashed is back in some 20 ms.

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

// freshOutage: for so long after an HSM went out, requests wait for its return.
const freshOutage = time.Second

// operation is what is asked of an HSM. drop gets answers that came too late.
type operation[T any] struct {
	call func(context.Context, hsm.Token) (T, error)
	drop func(T)
	need hsm.Usage // CanEncrypt or CanDecrypt

	verifies bool // the ciphertext is known to be good
}

// race is one request under way. Its runners ask one HSM after the other: the
// first is the caller's goroutine, others are hedges.
type race[T any] struct {
	g     *Group
	op    operation[T]
	ref   hsm.KeyRef
	apart []string

	outer context.Context // the request's
	ctx   context.Context // ends when there is an answer, too
	stop  context.CancelFunc

	runners sync.WaitGroup // hedges

	mu       sync.Mutex
	left     catalogue.Set // not asked in this round
	asking   catalogue.Set // asked now
	late     catalogue.Set // of these, overdue
	faulty   catalogue.Set // had a fault: one request counts once against an HSM, however often it asks
	crashes  int           // processes that ended under it
	hedged   bool
	starting bool // a hedge, which has asked nobody yet
	hopeful  bool // the hedge asks only HSMs that are able
	settled  bool
	answer   T
	err      error // with settled: a fault of the request
	refusal  error // not settled: a fault of the request that another HSM may not share
	refusals refusals
	trace    Trace
}

func serve[T any](ctx context.Context, g *Group, ref hsm.KeyRef, apart []string, op operation[T]) (T, Trace, error) {
	g.hedges.Earn()
	r := &race[T]{g: g, op: op, ref: ref, apart: apart, outer: ctx}
	r.ctx, r.stop = context.WithCancel(ctx)
	defer r.stop()
	for round := 0; ; round++ {
		r.left, r.hedged = g.holders(ref)&^r.refusals.by, false
		r.run(false)
		// Hedges use the caller's buffers: none may be left behind. Each ends soon after
		// the race is settled (Token: a call returns when its context ends).
		r.runners.Wait()
		if r.settled {
			return r.answer, r.trace, r.err
		}
		if !r.again(round) {
			var none T
			return none, r.trace, r.giveUp()
		}
	}
}

// again reports whether the HSMs should be asked once more, and waits for the pause before that.
func (r *race[T]) again(round int) bool {
	left := r.g.holders(r.ref) &^ r.refusals.by
	faults := r.trace.Faults
	failed := decide.FailedRound{
		Number: round, Crashes: r.crashes,
		Refused: r.refusals.by != 0, Doubted: r.refusals.doubts != 0,
		Passing: len(faults) > 0 && !hsm.AllOf(faults, hsm.ErrBusy) && !hsm.AllOf(faults, hsm.ErrKeyFault),
		Left:    left, Able: r.g.able(left), Recent: r.g.hopeful(left),
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

// pauseAfter is how long to wait before all HSMs are asked again: up to a quarter less than
// decide.RoundPauses says, so that many requests do not ask at once.
func pauseAfter(round int) time.Duration {
	if round >= len(decide.RoundPauses) {
		return 0
	}
	pause := decide.RoundPauses[round]
	return pause - time.Duration(rand.Float64()*float64(pause)/4)
}

// timeLeft is until the deadline of the request, or the group's budget if it has none.
func (r *race[T]) timeLeft() time.Duration {
	deadline, ok := r.outer.Deadline()
	if !ok {
		return r.g.config.Budget
	}
	return time.Until(deadline)
}

// run asks HSMs until there is an answer or none is left to ask.
func (r *race[T]) run(hedge bool) {
	for {
		m := r.next(hedge)
		if m == nil {
			return
		}
		answer, err := r.attempt(m)
		if r.take(m, answer, err) {
			r.stop()
			return
		}
	}
}

// next takes the next HSM to ask, nil if there is none or no need.
func (r *race[T]) next(hedge bool) *member {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting = r.starting && !hedge
	for {
		left := r.g.undrained(r.left)
		if hedge && r.hopeful || r.refusals.by != 0 {
			left = r.g.able(left)
		}
		able := left
		left = r.g.preferred(left, r.ref, r.op.need)
		if left == 0 && able != 0 {
			r.fault(&hsm.Error{HSM: strings.Join(r.g.parity.NamesOf(able), ", "), Op: "serve", Kind: hsm.ErrKeyFault, Detail: notCompared})
		}
		if r.settled || left == 0 || r.ctx.Err() != nil || r.crashes >= decide.CrashesEnough {
			r.hedged = r.hedged && !hedge // this one was in vain
			return nil
		}
		m := r.g.pick(r.g.without(left, r.apart))
		r.left &^= m.bit
		m.inFlight.Add(1) // and only then a look at drained: Drain does it the other way round
		if !m.standing.Drained.Load() {
			r.count(m, hedge)
			return m
		}
		m.inFlight.Add(-1)
	}
}

// count is the bookkeeping of one more attempt.
func (r *race[T]) count(m *member, hedge bool) {
	if r.trace.Attempts > 0 && !hedge {
		r.g.retries.Add(1)
	}
	r.asking |= m.bit
	r.trace.Attempts++
	if hedge {
		r.trace.Hedges++
	}
	m.requests.Add(1)
}

// take is what a result does to the race. It reports whether the race is over.
func (r *race[T]) take(m *member, answer T, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking &^= m.bit
	r.late &^= m.bit
	switch {
	case r.settled:
		if err == nil {
			r.op.drop(answer)
		}
	case errors.Is(err, hsm.ErrKeyNotFound):
		r.refusal = hsm.WithHSM(err, m.Name)
		nudge(m.refresh)
	case errors.Is(err, hsm.ErrDuplicateKey), errors.Is(err, hsm.ErrTooLarge): // on this HSM
		r.refusal = hsm.WithHSM(err, m.Name)
	case errors.Is(err, hsm.ErrKeyFault):
		r.fault(hsm.WithHSM(err, m.Name))
	case r.op.need == hsm.CanDecrypt && decide.RefusalOf(err) != decide.NoRefusal:
		r.refuse(m, err)
	case hsm.IsFault(err):
		if errors.Is(err, hsm.ErrCrashed) {
			r.crashes++
		}
		if !errors.Is(r.outer.Err(), context.Canceled) || !errors.Is(err, hsm.ErrTimeout) {
			r.fault(hsm.WithHSM(err, m.Name))
		}
	default:
		r.settled, r.answer, r.err = true, answer, hsm.WithHSM(err, m.Name)
		r.trace.HSM = m.Name
		r.g.learnUsage(m, r.ref, r.op.need, err)
		if err == nil && r.refusals.by != 0 { // two HSMs disagree
			r.g.CompareSoon(r.ref.Label)
		}
	}
	return r.settled
}

// attempt makes one call on one HSM, and watches the clock.
func (r *race[T]) attempt(m *member) (T, error) {
	w := watch[T]{race: r, member: m, start: time.Now()}
	incarnation := m.incarnation()
	if incarnation != m.admitted.Load() {
		r.g.admit(m)
	}
	// Another request may have admitted the token since this one picked the HSM.
	if r.op.need == hsm.CanEncrypt && r.g.trusted(m.bit, r.ref) == 0 {
		m.inFlight.Add(-1)
		var none T
		return none, &hsm.Error{Op: "serve", Kind: hsm.ErrKeyFault, Detail: notCompared}
	}
	w.begin()
	inFlight := m.waiting()
	answer, err := r.op.call(r.ctx, m.Token)
	m.inFlight.Add(-1)
	w.end()
	if m.incarnation() != incarnation && isStatement(err) {
		if err == nil {
			r.op.drop(answer)
		}
		var none T
		answer, err = none, replacedError("serve")
	}
	r.g.noteKey(m, r.ref, r.op.need, err)
	switch took := time.Since(w.start); {
	case !errors.Is(err, hsm.ErrTimeout):
		m.latency.Add(took)
		m.answered(took < r.g.config.AttemptTimeout)
		if !hsm.IsFault(err) {
			m.queue.Note(took, inFlight, false)
		}
	case r.ctx.Err() == nil:
		// The HSM itself says that it is late.
	default:
		// Its time was up: another was quicker, the caller hung up, or it hangs, of which
		// the watch took note. That it took so long, at least, is known.
		m.queue.Note(took, inFlight, true)
		if r.outer.Err() == nil {
			m.latency.Add(took)
			if took >= w.delay {
				r.g.overtaken(m, took)
			}
		}
		return answer, err
	}
	if !hsm.IsFault(err) || r.firstFault(m) {
		r.g.note(m, err)
	}
	return answer, err
}

func (r *race[T]) firstFault(m *member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.faulty&m.bit == 0
	r.faulty |= m.bit
	return first
}

// watch is the clock of one attempt: it hedges it when it is slow, and suspects
// its HSM when there is no answer.
type watch[T any] struct {
	race   *race[T]
	member *member
	start  time.Time
	delay  time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	slow    bool // the delay has passed
	overdue bool // the attempt timeout has passed
	ended   bool
}

func (w *watch[T]) begin() {
	w.delay = w.race.g.hedgeDelay(w.member)
	w.mu.Lock()
	w.timer = time.AfterFunc(w.delay, w.fire)
	w.mu.Unlock()
}

func (w *watch[T]) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.timer.Stop()
}

// fire runs when the attempt is slow, when it has no answer for the attempt timeout, and
// then again and again: a second HSM may be worth another try.
func (w *watch[T]) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	timeout := w.race.g.config.AttemptTimeout
	if !w.slow {
		w.slow = true
		w.race.second(w.member, false)
		if w.delay < timeout {
			w.timer.Reset(timeout - w.delay)
			return
		}
	}
	if !w.overdue {
		w.overdue = true
		w.race.g.unanswered(w.member, time.Since(w.start))
	}
	w.race.second(w.member, true)
	w.timer.Reset(timeout / 2)
}

// second asks another HSM beside the one that is slow, if slowCall.next says so.
func (r *race[T]) second(slow *member, overdue bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if overdue {
		r.late |= slow.bit
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
	r.left |= call.Others
	r.hedged, r.starting, r.hopeful = true, true, why != decide.LastResort
	r.g.hedgesMade.Add(1)
	r.runners.Go(func() { r.run(true) })
}

// slowCall is what is known of a call on an HSM that is slow. r.mu is held.
func (r *race[T]) slowCall(slow *member, overdue bool) decide.SlowCall {
	others := r.left &^ slow.bit
	if others == 0 { // those that failed may be asked again
		others = r.g.able(r.g.holders(r.ref) &^ r.asking)
	}
	within := r.timeLeft()
	if overdue {
		within = min(within, r.g.config.AttemptTimeout/2)
	}
	return decide.SlowCall{
		Ended:   r.settled || r.ctx.Err() != nil,
		Beside:  r.hedged && (r.starting || r.asking&^r.late != 0),
		Overdue: overdue,
		Failing: slow.standing.Out.Load() && slow.health.Load().Status == status.Unavailable,
		Others:  others,
		Able:    r.g.able(others),
		Quick:   r.g.quickOnes(others, within, overdue),
		Free:    r.g.freeOnes(others),
	}
}

// fault keeps what an HSM said, once.
func (r *race[T]) fault(err error) {
	text := err.Error()
	for _, known := range r.trace.Faults {
		if known.Error() == text {
			return
		}
	}
	r.trace.Faults = append(r.trace.Faults, err)
}
