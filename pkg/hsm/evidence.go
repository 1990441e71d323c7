package hsm

// Whether a ciphertext is bad. KMS treats that answer as final and tells its caller that the data is
// corrupt, so it needs proof (requirement D2): a definite code from an HSM whose key material was
// compared since it joined, or the same verdict from a second HSM.

import "errors"

// refusalKind is how sure an HSM is that a ciphertext does not authenticate.
type refusalKind uint8

const (
	noRefusal        refusalKind = iota // the error says nothing of the ciphertext
	unprovenRefusal                     // ErrUnprovenCiphertext: no verdict
	ambiguousRefusal                    // ErrRefusedCiphertext: ambiguous, repeated and checked
	definiteRefusal                     // ErrInvalidCiphertext
)

// refusalOf is what the error of a Decrypt says of the ciphertext.
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
