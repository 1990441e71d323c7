package catalogue

// Versions that need trial decryption, because several objects of an HSM, or an object that had the
// version by another rule, may have made the ciphertext. The HSM tries each candidate
// (hsm.TrialCandidates). Decrypt asks every HSM that has one and does not trust the refusal of a
// single HSM.

import (
	"fmt"
	"slices"

	"xks-proxy/pkg/hsm"
)

// trialVersion is one such version.
type trialVersion struct {
	number     uint32
	Holders    Set // the members with an object that may have made it
	decrypters Set // of these, the ones with an object that may decrypt
}

// trialVersions returns the versions of one label for which an HSM holds anything but the one
// object that carries the number.
func trialVersions(views []View) []trialVersion {
	if slices.IndexFunc(views, func(v View) bool { return !v.isPlain() }) < 0 {
		return nil // nearly every key
	}
	var guesses []trialVersion
	for _, number := range candidates(views) {
		guess, plain := trialVersion{number: number}, true
		for _, v := range views {
			readers := hsm.TrialCandidates(v.Objects, number)
			if !v.Seen || len(readers) == 0 {
				continue
			}
			guess.Holders |= v.Bit
			plain = plain && len(readers) == 1 && v.Objects[readers[0]].Version() == number
			if slices.ContainsFunc(
				readers,
				func(i int) bool { return v.Objects[i].Usage&hsm.CanDecrypt != 0 },
			) {
				guess.decrypters |= v.Bit
			}
		}
		if !plain {
			guesses = append(guesses, guess)
		}
	}
	return guesses
}

// isPlain reports whether there is at most one object and it has no CKA_ID: version 0 by every
// rule.
func (v View) isPlain() bool {
	return len(v.Objects) == 0 || len(v.Objects) == 1 && len(v.Objects[0].ID) == 0
}

// candidates returns the versions that the objects have by any rule.
func candidates(views []View) []uint32 {
	numbers := []uint32{0}
	for _, v := range views {
		for _, o := range v.Objects {
			if !o.IsAES256() {
				continue
			}
			numbers = append(numbers, o.Version())
			for _, rule := range [...]hsm.VersionRule{hsm.VersionID4, hsm.VersionNumber} {
				number, _ := rule.Read(o.ID)
				numbers = append(numbers, number)
			}
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// Trial returns the version if it needs trial decryption, else nil.
func (k *Key) Trial(number uint32) *trialVersion {
	for i := range k.trials {
		if k.trials[i].number == number {
			return &k.trials[i]
		}
	}
	return nil
}

// needsTrial reports whether several HSMs have to be asked before a ciphertext of this version is
// bad.
func (k *Key) needsTrial(number uint32) bool {
	guess := k.Trial(number)
	return guess != nil && guess.Holders.Size() > 1
}

func (g *trialVersion) checkDecrypt(label string) error {
	if g.decrypters == 0 {
		return &hsm.Error{
			Op:     "decrypt",
			Kind:   hsm.ErrKeyUsage,
			Detail: fmt.Sprintf("key %q version %d has CKA_DECRYPT false", label, g.number),
		}
	}
	return nil
}
