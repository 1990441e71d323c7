package group

// What the HSMs said about the ciphertext of one request. Package decide says whether that is
// proof.

import (
	"fmt"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/decide"
)

// refusals collects the refusals of one ciphertext. The zero value has none.
type refusals struct {
	by         catalogue.Set // HSMs with a verdict against it
	unprovenBy catalogue.Set // HSMs whose refusal proves nothing
	kind       decide.RefusalKind
	first      *member // that refused with a verdict
	errs       []error // in order, one for each HSM and round
}

// add records a refusal and reports whether the ciphertext is proven to be invalid.
func (r *refusals) add(m *member, err error, e decide.Evidence) bool {
	e.Second = r.by&^m.bit != 0
	r.errs = append(r.errs, hsm.WithHSM(err, m.Name))
	if e.Kind == decide.UnprovenRefusal {
		r.unprovenBy |= m.bit
		return false
	}
	r.by |= m.bit
	if r.first == nil {
		r.first, r.kind = m, e.Kind
	}
	return e.Proves()
}

// unproven returns the error for a ciphertext that was refused without proof. KMS retries it.
func (r *refusals) unproven(ref hsm.KeyRef) error {
	return &hsm.Error{Op: "decrypt", Kind: hsm.ErrUnavailable, Detail: fmt.Sprintf(
		"key %q: the ciphertext was refused, which proves nothing yet%s",
		ref.Label,
		hsm.CauseSuffix(r.errs),
	)}
}

// evidenceOf describes a refusal by one HSM. A copy that is not trusted proves nothing, not even as
// the second of two: both tokens may have been restored wrongly.
func (g *Group) evidenceOf(ref hsm.KeyRef, m *member, kind decide.RefusalKind) decide.Evidence {
	if g.trusted(m.bit, ref) == 0 {
		kind = min(kind, decide.UnprovenRefusal)
	}
	return decide.Evidence{
		Kind:     kind,
		Compared: kind > decide.UnprovenRefusal && g.isCompared(ref, m),
		Diverged: g.catalogue.Load().IsDiverged(ref),
	}
}

// isCompared reports whether an HSM's copy of a key version agreed with another HSM's since it
// joined, or has no other to agree with.
func (g *Group) isCompared(ref hsm.KeyRef, m *member) bool {
	if len(g.members) == 1 {
		return true
	}
	if !m.trust.Allows(ref) {
		return false
	}
	c := g.catalogue.Load()
	key := c.Keys[ref.Label]
	if key == nil {
		return false
	}
	v := key.Version(ref.Version)
	guess := key.Trial(ref.Version)
	switch {
	case guess != nil && guess.Holders == m.bit:
		return c.Unknown == 0 // it has tried every object that may have made the ciphertext
	case v == nil:
		return false
	case v.Holders == m.bit:
		return c.Unknown == 0 // no other HSM can have made the ciphertext
	}
	return g.crossChecks.IsCompared(ref, m.bit)
}

// addRefusal handles a refused ciphertext. Requires r.mu.
func (r *request[T]) addRefusal(m *member, err error) {
	r.g.CompareSoon(r.ref.Label)
	proven := r.refusals.add(m, err, r.g.evidenceOf(r.ref, m, decide.RefusalOf(err)))
	if proven || r.op.verifies && decide.RefusalOf(err) > decide.UnprovenRefusal {
		r.settleInvalid(m)
	}
}

// settleInvalid ends the request: the ciphertext is invalid.
func (r *request[T]) settleInvalid(m *member) {
	r.settled, r.trace.HSM = true, m.Name
	r.err = &hsm.Error{
		HSM:    m.Name,
		Op:     "decrypt",
		Kind:   hsm.ErrInvalidCiphertext,
		Detail: hsm.Causes(r.refusals.errs),
	}
}

// giveUp returns the error of a request without an answer. A refusal may count as proof now that no
// HSM is left to ask.
func (r *request[T]) giveUp() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.refusals.first
	if r.op.verifies && len(r.refusals.errs) > 0 && r.outer.Err() == nil {
		return &hsm.Error{
			Op:     "verify",
			Kind:   hsm.ErrInvalidCiphertext,
			Detail: hsm.Causes(r.refusals.errs),
		}
	}
	if first == nil || r.outer.Err() != nil {
		if len(r.refusals.errs) > 0 && len(r.trace.Faults) == 0 && r.outer.Err() == nil {
			return r.refusals.unproven(r.ref)
		}
		return r.g.noAnswerError(r.outer, r.ref, &r.trace, r.refusal)
	}
	e := r.g.evidenceOf(r.ref, first, r.refusals.kind)
	e.Second = r.refusals.by.Size() > 1
	e.Last = !e.Diverged || !r.g.heldByDrained(r.ref)
	if !e.Proves() {
		return r.refusals.unproven(r.ref)
	}
	r.settleInvalid(first)
	return r.err
}
