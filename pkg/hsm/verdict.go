package hsm

// What the HSMs said of the ciphertext of one request, and what is known of each of them; whether
// that proves anything is decided in evidence.go.

import (
	"fmt"
)

// refusals are what the HSMs said of the ciphertext of one request. The zero value has none.
type refusals struct {
	by     memberSet // HSMs with a verdict against it
	doubts memberSet // HSMs whose refusal proves nothing
	kind   refusalKind
	first  *member // that refused with a verdict
	errs   []error // in order, one for each HSM and round
}

// add takes note of one refusal. It reports whether the ciphertext is bad beyond doubt.
func (r *refusals) add(m *member, err error, e evidence) bool {
	e.second = r.by&^m.bit != 0
	r.errs = append(r.errs, named(err, m.Name))
	if e.kind == unprovenRefusal {
		r.doubts |= m.bit
		return false
	}
	r.by |= m.bit
	if r.first == nil {
		r.first, r.kind = m, e.kind
	}
	return e.proves()
}

// unproven is the error of a request whose ciphertext was refused without proof. KMS retries it.
func (r *refusals) unproven(ref KeyRef) error {
	return &Error{Op: "decrypt", Kind: ErrUnavailable, Detail: fmt.Sprintf(
		"key %q: the ciphertext was refused, which proves nothing yet%s", ref.Label, listed(r.errs))}
}

// evidenceOf describes a refusal by one HSM. A copy that is not trusted proves nothing, not even as
// the second of two: both tokens may have been restored wrongly.
func (g *Group) evidenceOf(ref KeyRef, m *member, kind refusalKind) evidence {
	if g.trusted(m.bit, ref) == 0 {
		kind = min(kind, unprovenRefusal)
	}
	return evidence{
		kind:     kind,
		compared: kind > unprovenRefusal && g.isCompared(ref, m),
		diverged: g.catalogue.Load().isDiverged(ref),
	}
}

// isCompared reports whether an HSM's material for a key version was compared with another HSM's
// since it joined, or has no other to be compared with.
func (g *Group) isCompared(ref KeyRef, m *member) bool {
	if len(g.members) == 1 {
		return true
	}
	if !m.trust.allows(ref) {
		return false
	}
	c := g.catalogue.Load()
	key := c.keys[ref.Label]
	if key == nil {
		return false
	}
	v := key.version(ref.Version)
	guess := key.guess(ref.Version)
	switch {
	case guess != nil && guess.readers == m.bit:
		return c.unknown == 0 // it tried every object that may have made the ciphertext
	case v == nil:
		return false
	case v.holders == m.bit:
		return c.unknown == 0 // nobody else can have made the ciphertext
	}
	return g.crosses.isCompared(ref, m.bit)
}

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
