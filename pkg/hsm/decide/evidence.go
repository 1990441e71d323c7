package decide

// Whether a ciphertext is invalid. KMS treats that answer as final and tells its caller that the
// data is corrupt, so it needs proof (requirement D2): a definite code from an HSM whose key
// material was compared since it joined, or the same verdict from a second HSM.

import (
	"errors"

	"xks-proxy/pkg/hsm"
)

// RefusalKind is how certain an HSM is that a ciphertext does not authenticate.
type RefusalKind uint8

const (
	NoRefusal        RefusalKind = iota // the error says nothing about the ciphertext
	UnprovenRefusal                     // ErrUnprovenCiphertext: no verdict
	ambiguousRefusal                    // ErrRefusedCiphertext: ambiguous, repeated and checked
	definiteRefusal                     // ErrInvalidCiphertext
)

// RefusalOf returns what the error of a Decrypt says about the ciphertext.
func RefusalOf(err error) RefusalKind {
	switch {
	case err == nil:
		return NoRefusal
	case errors.Is(err, hsm.ErrInvalidCiphertext):
		return definiteRefusal
	case errors.Is(err, hsm.ErrRefusedCiphertext):
		return ambiguousRefusal
	case errors.Is(err, hsm.ErrUnprovenCiphertext):
		return UnprovenRefusal
	}
	return NoRefusal
}

// Evidence is one HSM's refusal of a ciphertext, and what is known about that HSM.
type Evidence struct {
	Kind     RefusalKind
	Compared bool // its copy of the key agreed in a comparison since it joined
	Diverged bool // the HSMs may hold different material: one may read what another cannot
	Second   bool // another HSM has refused the same ciphertext
	Last     bool // no other HSM that may hold the key can be asked
}

// Proves reports whether the ciphertext is proven to be invalid.
func (e Evidence) Proves() bool {
	switch {
	case e.Kind < ambiguousRefusal:
		return false
	case e.Diverged:
		return e.Second && e.Last // every HSM that may hold the key has to refuse
	case e.Second:
		return true
	case e.Kind == definiteRefusal:
		return e.Compared
	default:
		return e.Compared && e.Last
	}
}
