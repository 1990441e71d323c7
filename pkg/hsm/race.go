package hsm

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
)

// freshOutage: for so long after an HSM went out, requests wait for its return.
const freshOutage = time.Second

// operation is what is asked of an HSM. drop gets answers that came too late.
type operation[T any] struct {
	call func(context.Context, Token) (T, error)
	drop func(T)
	need Usage // CanEncrypt or CanDecrypt

	verifies bool // the ciphertext is known to be good
}

// race is one request under way. Its runners ask one HSM after the other: the
// first is the caller's goroutine, others are hedges.
type race[T any] struct {
	g     *Group
	op    operation[T]
	ref   KeyRef
	apart []string

	outer context.Context // the request's
	ctx   context.Context // ends when there is an answer, too
	stop  context.CancelFunc

	runners sync.WaitGroup // hedges

	mu       sync.Mutex
	left     memberSet // not asked in this round
	asking   memberSet // asked now
	late     memberSet // of these, overdue
	faulty   memberSet // had a fault: one request counts once against an HSM, however often it asks
	crashes  int       // processes that ended under it
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

func serve[T any](ctx context.Context, g *Group, ref KeyRef, apart []string, op operation[T]) (T, Trace, error) {
	g.hedges.earn()
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
	failed := failedRound{
		number: round, crashes: r.crashes,
		refused: r.refusals.by != 0, doubted: r.refusals.doubts != 0,
		passing: len(faults) > 0 && !allOf(faults, ErrBusy) && !allOf(faults, ErrKeyFault),
		left:    left, able: r.g.able(left), recent: r.g.hopeful(left),
		pause: pauseAfter(round), time: r.timeLeft(),
	}
	next, _ := failed.next()
	if next == giveUp {
		return false
	}
	timer := time.NewTimer(failed.pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.outer.Done():
		return false
	}
}

// pauseAfter is how long to wait before all HSMs are asked again: up to a quarter less than
// roundPauses says, so that many requests do not ask at once.
func pauseAfter(round int) time.Duration {
	if round >= len(roundPauses) {
		return 0
	}
	pause := roundPauses[round]
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
			r.fault(&Error{HSM: strings.Join(r.g.parity.namesOf(able), ", "), Op: "serve", Kind: ErrKeyFault, Detail: notCompared})
		}
		if r.settled || left == 0 || r.ctx.Err() != nil || r.crashes >= crashesEnough {
			r.hedged = r.hedged && !hedge // this one was in vain
			return nil
		}
		m := r.g.pick(r.g.without(left, r.apart))
		r.left &^= m.bit
		m.inFlight.Add(1) // and only then a look at drained: Drain does it the other way round
		if !m.standing.drained.Load() {
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
	case errors.Is(err, ErrKeyNotFound):
		r.refusal = named(err, m.Name)
		nudge(m.refresh)
	case errors.Is(err, ErrDuplicateKey), errors.Is(err, ErrTooLarge): // on this HSM
		r.refusal = named(err, m.Name)
	case errors.Is(err, ErrKeyFault):
		r.fault(named(err, m.Name))
	case r.op.need == CanDecrypt && refusalOf(err) != noRefusal:
		r.refuse(m, err)
	case IsFault(err):
		if errors.Is(err, ErrCrashed) {
			r.crashes++
		}
		if !errors.Is(r.outer.Err(), context.Canceled) || !errors.Is(err, ErrTimeout) {
			r.fault(named(err, m.Name))
		}
	default:
		r.settled, r.answer, r.err = true, answer, named(err, m.Name)
		r.trace.HSM = m.Name
		r.g.learnUsage(m, r.ref, r.op.need, err)
		if err == nil && r.refusals.by != 0 { // two HSMs disagree
			r.g.Doubt(r.ref.Label)
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
	if r.op.need == CanEncrypt && r.g.trusted(m.bit, r.ref) == 0 {
		m.inFlight.Add(-1)
		var none T
		return none, &Error{Op: "serve", Kind: ErrKeyFault, Detail: notCompared}
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
	case !errors.Is(err, ErrTimeout):
		m.latency.add(took)
		m.answered(took < r.g.config.AttemptTimeout)
		if !IsFault(err) {
			m.queue.note(took, inFlight, false)
		}
	case r.ctx.Err() == nil:
		// The HSM itself says that it is late.
	default:
		// Its time was up: another was quicker, the caller hung up, or it hangs, of which
		// the watch took note. That it took so long, at least, is known.
		m.queue.note(took, inFlight, true)
		if r.outer.Err() == nil {
			m.latency.add(took)
			if took >= w.delay {
				r.g.overtaken(m, took)
			}
		}
		return answer, err
	}
	if !IsFault(err) || r.firstFault(m) {
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
	next, why := call.next()
	if next != askAnother {
		return
	}
	if why == hedge && !r.g.hedges.spend() {
		r.g.hedgesDenied.Add(1)
		return
	}
	r.left |= call.others
	r.hedged, r.starting, r.hopeful = true, true, why != lastResort
	r.g.hedgesMade.Add(1)
	r.runners.Go(func() { r.run(true) })
}

// slowCall is what is known of a call on an HSM that is slow. r.mu is held.
func (r *race[T]) slowCall(slow *member, overdue bool) slowCall {
	others := r.left &^ slow.bit
	if others == 0 { // those that failed may be asked again
		others = r.g.able(r.g.holders(r.ref) &^ r.asking)
	}
	within := r.timeLeft()
	if overdue {
		within = min(within, r.g.config.AttemptTimeout/2)
	}
	return slowCall{
		ended:   r.settled || r.ctx.Err() != nil,
		beside:  r.hedged && (r.starting || r.asking&^r.late != 0),
		overdue: overdue,
		failing: slow.standing.out.Load() && slow.health.Load().Status == Unavailable,
		others:  others,
		able:    r.g.able(others),
		quick:   r.g.quickOnes(others, within, overdue),
		free:    r.g.freeOnes(others),
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
