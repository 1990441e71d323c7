package hsm

// What a refused ciphertext does to a request: whether it is bad is decided in verdict.go.

// refuse is what a refused ciphertext does to the race. r.mu is held.
func (r *race[T]) refuse(m *member, err error) {
	r.g.Doubt(r.ref.Label)
	proven := r.refusals.add(m, err, r.g.evidenceOf(r.ref, m, refusalOf(err)))
	if proven || r.op.verifies && refusalOf(err) > unprovenRefusal {
		r.settle(m)
	}
}

// settle ends the race: the ciphertext is bad beyond doubt.
func (r *race[T]) settle(m *member) {
	r.settled, r.trace.HSM = true, m.Name
	r.err = &Error{HSM: m.Name, Op: "decrypt", Kind: ErrInvalidCiphertext, Detail: causes(r.refusals.errs)}
}

// giveUp is the error of a race without an answer. No HSM is left to ask: what one refused may be
// proven by that.
func (r *race[T]) giveUp() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.refusals.first
	if r.op.verifies && len(r.refusals.errs) > 0 && r.outer.Err() == nil {
		return &Error{Op: "verify", Kind: ErrInvalidCiphertext, Detail: causes(r.refusals.errs)}
	}
	if first == nil || r.outer.Err() != nil {
		if len(r.refusals.errs) > 0 && len(r.trace.Faults) == 0 && r.outer.Err() == nil {
			return r.refusals.unproven(r.ref)
		}
		return r.g.giveUp(r.outer, r.ref, &r.trace, r.refusal)
	}
	e := r.g.evidenceOf(r.ref, first, r.refusals.kind)
	e.second = r.refusals.by.size() > 1
	e.last = !e.diverged || !r.g.heldByDrained(r.ref)
	if !e.proves() {
		return r.refusals.unproven(r.ref)
	}
	r.settle(first)
	return r.err
}
