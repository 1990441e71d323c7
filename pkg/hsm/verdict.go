package hsm

// Whether a ciphertext is bad. KMS treats that answer as final and tells its caller that the data
// is corrupt, so it needs proof (requirement D2): a definite code from an HSM whose key material
// was compared since it joined, or the same verdict from a second HSM.

import (
	"errors"
	"fmt"
)

// refusalKind is how sure an HSM is that a ciphertext does not authenticate.
type refusalKind uint8

const (
	noRefusal        refusalKind = iota // the error says nothing of the ciphertext
	unprovenRefusal                     // ErrUnprovenCiphertext: no verdict
	ambiguousRefusal                    // ErrRefusedCiphertext: ambiguous, repeated and checked
	definiteRefusal                     // ErrInvalidCiphertext
)

func refusalOf(err error) refusalKind {
	switch {
	case err == nil:
		return noRefusal
	case errors.Is(err, ErrInvalidCiphertext):
		return definiteRefusal
	case errors.Is(err, ErrRefusedCiphertext):
		return ambiguousRefusal
	case errors.Is(err, ErrUnprovenCiphertext):
		return unprovenRefusal
	}
	return noRefusal
}

// evidence is one HSM's refusal of a ciphertext, and what is known of that HSM.
type evidence struct {
	kind     refusalKind
	compared bool // its material for the key was compared since it joined, and agreed
	diverged bool // the HSMs are known to hold different material: one may read what another cannot
	second   bool // another HSM refused the same ciphertext before
	last     bool // no other HSM that may hold the key can be asked
}

// proves reports whether the ciphertext is bad beyond doubt.
func (e evidence) proves() bool {
	switch {
	case e.kind < ambiguousRefusal:
		return false
	case e.diverged:
		return e.second && e.last // every HSM that may hold the key has to refuse
	case e.second:
		return true
	case e.kind == definiteRefusal:
		return e.compared
	default:
		return e.compared && e.last
	}
}

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
