package group

// Encrypt with proof that the ciphertext decrypts (requirement E4). If it does not, an HSM computes
// wrongly or two HSMs hold different keys under one label. Both must be found before data depends
// on the ciphertext.

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"xks-proxy/pkg/hsm"
)

// ErrIntegrity says that a new ciphertext does not decrypt to its plaintext.
var ErrIntegrity = errors.New(
	"a new ciphertext does not decrypt to its plaintext: " +
		"an HSM computes wrongly, or two HSMs hold different keys under one label",
)

// Verification says how to verify a new ciphertext. Answer receives it before the verification, so
// that the answer is made from the very bytes that are decrypted.
type Verification[T any] struct {
	OnSame bool // by the HSM that encrypted; else by another one, where there is an equal
	Answer func(hsm.Sealed) T
}

// VerifiedTrace is the Trace of all calls together.
type VerifiedTrace struct {
	Trace             // HSM is the one that encrypted
	VerifiedBy string // the HSM that decrypted it again; "" if none did
}

func (t *VerifiedTrace) add(calls Trace) {
	t.Attempts += calls.Attempts
	t.Hedges += calls.Hedges
	t.Faults = append(t.Faults, calls.Faults...)
}

// EncryptVerified is Group.Encrypt with a verified result.
//
// If two HSMs disagree they change roles, which helps if one of them fails in one direction only.
// If they still disagree, each verifies itself: one that cannot is broken, and the answer of the
// other is good. If both can, their keys differ: the key is compared soon and the error is
// ErrIntegrity. Other errors are those of Encrypt and Decrypt.
func EncryptVerified[T any](
	ctx context.Context, g *Group, ref hsm.KeyRef, aad, plaintext []byte, v Verification[T],
) (T, VerifiedTrace, error) {
	e := verifiedEncrypt[T]{
		ctx:          ctx,
		group:        g,
		ref:          ref,
		aad:          aad,
		plaintext:    plaintext,
		Verification: v,
	}
	answer, err := e.run()
	return answer, e.trace, err
}

// verifiedEncrypt is one EncryptVerified.
type verifiedEncrypt[T any] struct {
	Verification[T]
	ctx            context.Context
	group          *Group
	ref            hsm.KeyRef
	aad, plaintext []byte
	trace          VerifiedTrace
}

func (e *verifiedEncrypt[T]) run() (T, error) {
	answer, err := e.try(nil, nil)
	if !errors.Is(err, ErrIntegrity) {
		return answer, err
	}
	one, other := e.trace.HSM, e.trace.VerifiedBy
	e.group.Probe(one)
	e.group.Probe(other)
	e.trace.Faults = append(
		e.trace.Faults,
		err,
	) // operators must hear of it, also when the next try is good
	answer, err = e.try([]string{one}, nil)
	if !errors.Is(err, ErrIntegrity) {
		return answer, err
	}
	var sound []T
	for _, name := range []string{one, other} {
		others := e.group.others(name)
		answer, err := e.try(others, others)
		if err == nil && e.trace.HSM == name && e.trace.VerifiedBy == name {
			sound = append(sound, answer)
		}
	}
	if len(sound) == 1 && one != other {
		return sound[0], nil
	}
	e.group.CompareSoon(e.ref.Label)
	var none T
	return none, ErrIntegrity
}

// try encrypts without some HSMs and verifies without others. If verifyApart is nil, OnSame decides
// between the HSM that encrypted and another one.
func (e *verifiedEncrypt[T]) try(encryptApart, verifyApart []string) (T, error) {
	var none T
	sealed, calls, err := e.group.Encrypt(e.ctx, e.ref, e.aad, e.plaintext, encryptApart...)
	e.trace.add(calls)
	e.trace.HSM = calls.HSM
	if err != nil {
		return none, err
	}
	answer := e.Answer(sealed)
	switch {
	case verifyApart != nil:
	case e.OnSame:
		verifyApart = e.group.others(calls.HSM)
	default:
		verifyApart = []string{calls.HSM}
	}
	err = e.verify(sealed, verifyApart)
	if err != nil {
		return none, err
	}
	return answer, nil
}

func (e *verifiedEncrypt[T]) verify(sealed hsm.Sealed, apart []string) error {
	plaintext, calls, err := e.group.verify(e.ctx, e.ref, e.aad, sealed, apart...)
	defer clear(plaintext)
	e.trace.add(calls)
	e.trace.VerifiedBy = calls.HSM
	switch {
	case errors.Is(err, hsm.ErrInvalidCiphertext):
		return fmt.Errorf(
			"%w: %s",
			ErrIntegrity,
			err,
		) // not ErrInvalidCiphertext: that is about a caller's
	case err != nil:
		return err
	case !bytes.Equal(plaintext, e.plaintext):
		return fmt.Errorf(
			"%w (encrypted by %s, decrypted by %s)",
			ErrIntegrity,
			e.trace.HSM,
			calls.HSM,
		)
	}
	return nil
}
