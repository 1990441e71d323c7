package group

// Encrypt and Decrypt of a group: the operation on an HSM, and the error if no HSM answers.
// request.go asks the HSMs.

import (
	"context"
	"errors"
	"fmt"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/decide"
)

// Trace says how a request was served, for its log line.
type Trace struct {
	HSM      string  // that gave the answer; "" if none did
	Attempts int     // calls of an HSM
	Hedges   int     // of these, made because another was slow
	Faults   []error // of the HSMs asked in vain, in order
}

// Encrypt encrypts on any HSM that can, with a version from Key.EncryptVersion. The errors are
// those of hsm.Token; ErrUnavailable and ErrTimeout mean that no HSM with the key could serve the
// request. ctx needs a deadline: the group waits for slow HSMs until then.
//
// HSMs named in apart are skipped if another one of the same priority is in service.
func (g *Group) Encrypt(
	ctx context.Context,
	ref hsm.KeyRef,
	aad, plaintext []byte,
	apart ...string,
) (hsm.Sealed, Trace, error) {
	return serve(ctx, g, ref, apart, operation[hsm.Sealed]{
		need: hsm.CanEncrypt,
		call: func(ctx context.Context, t hsm.Token) (hsm.Sealed, error) {
			sealed, err := t.Encrypt(ctx, ref, aad, plaintext)
			if err == nil {
				err = checkSealed(sealed, len(plaintext))
			}
			return sealed, err
		},
		discard: func(hsm.Sealed) {},
	})
}

// Decrypt decrypts on any HSM that can; apart works as in Encrypt. ErrInvalidCiphertext is proven
// (verdict.go). Without proof the error is ErrUnavailable.
func (g *Group) Decrypt(
	ctx context.Context,
	ref hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
	apart ...string,
) ([]byte, Trace, error) {
	return serve(ctx, g, ref, apart, decryption(ref, aad, sealed))
}

// verify decrypts a ciphertext that was just made and is known to be good. The first HSM that
// refuses it ends the request with ErrInvalidCiphertext.
func (g *Group) verify(
	ctx context.Context,
	ref hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
	apart ...string,
) ([]byte, Trace, error) {
	op := decryption(ref, aad, sealed)
	op.verifies = true
	return serve(ctx, g, ref, apart, op)
}

func decryption(ref hsm.KeyRef, aad []byte, sealed hsm.Sealed) operation[[]byte] {
	return operation[[]byte]{
		need: hsm.CanDecrypt,
		call: func(ctx context.Context, t hsm.Token) ([]byte, error) {
			plaintext, err := t.Decrypt(ctx, ref, aad, sealed)
			if err == nil && len(plaintext) != len(sealed.Ciphertext) {
				clear(plaintext)
				err = &hsm.Error{
					Op:   "decrypt",
					Kind: hsm.ErrUnavailable,
					Detail: fmt.Sprintf(
						"the HSM answered %d bytes for %d",
						len(plaintext),
						len(sealed.Ciphertext),
					),
				}
			}
			return plaintext, err
		},
		discard: func(plaintext []byte) { clear(plaintext) },
	}
}

// checkSealed rejects output that KMS could not use (requirement E2), so that another HSM is asked.
func checkSealed(s hsm.Sealed, plaintext int) error {
	if len(s.Ciphertext) == plaintext && len(s.Tag) == hsm.TagSize &&
		(len(s.IV) == hsm.IVSize || len(s.IV) == hsm.LongIVSize) {
		return nil
	}
	return &hsm.Error{Op: "encrypt", Kind: hsm.ErrUnavailable,
		Detail: fmt.Sprintf(
			"the HSM answered %d bytes of ciphertext for %d, a tag of %d, an IV of %d",
			len(s.Ciphertext),
			plaintext,
			len(s.Tag),
			len(s.IV),
		)}
}

// noAnswerError returns the error of a request that no HSM answered. refusal is what an HSM said
// about the request itself: that the key does not exist, or that the input is too large.
func (g *Group) noAnswerError(
	ctx context.Context,
	ref hsm.KeyRef,
	trace *Trace,
	refusal error,
) error {
	switch {
	case ctx.Err() != nil:
		return &hsm.Error{
			Op:   "serve",
			Kind: hsm.Timeout(ctx.Err()),
			Detail: fmt.Sprintf(
				"key %q, attempts: %d%s",
				ref.Label,
				trace.Attempts,
				hsm.CauseSuffix(trace.Faults),
			),
		}
	case len(trace.Faults) > 0 && hsm.AllOf(trace.Faults, hsm.ErrBusy):
		return &hsm.Error{
			Op:     "serve",
			Kind:   hsm.ErrBusy,
			Detail: fmt.Sprintf("key %q%s", ref.Label, hsm.CauseSuffix(trace.Faults)),
		}
	case len(trace.Faults) > 0:
		return &hsm.Error{
			Op:   "serve",
			Kind: hsm.ErrUnavailable,
			Detail: fmt.Sprintf(
				"no HSM that holds key %q could serve it%s",
				ref.Label,
				hsm.CauseSuffix(trace.Faults),
			),
		}
	case errors.Is(refusal, hsm.ErrKeyNotFound):
		// The HSMs that should hold the key say that it does not exist. Ask all before believing
		// it.
		key, err := g.resolver.lookup(ctx, ref.Label, holds(ref.Version), versionNotFound(ref))
		if err == nil {
			err = &hsm.Error{
				Op:     "serve",
				Kind:   hsm.ErrUnavailable,
				Detail: fmt.Sprintf("key %q was not found and then found again", key.Label),
			}
		}
		return err
	case errors.Is(refusal, hsm.ErrTooLarge) && g.heldByDrained(ref):
		return &hsm.Error{
			Op:   "serve",
			Kind: hsm.ErrUnavailable,
			Detail: fmt.Sprintf(
				"too large for the HSMs in use; one that holds key %q is drained and may take it",
				ref.Label,
			),
		}
	case refusal != nil:
		return refusal
	}
	return &hsm.Error{
		Op:   "serve",
		Kind: hsm.ErrUnavailable,
		Detail: fmt.Sprintf(
			"no HSM in use is known to hold version %d of key %q",
			ref.Version,
			ref.Label,
		),
	}
}

// notVerified is why an HSM does not serve a key (requirement R6).
const notVerified = "its token or its keys have changed, " +
	"and this key was not compared with another HSM since"

// replacedError is the fault of a call during which the HSM's process was replaced: the answer may
// come from another token.
func replacedError(op string) error {
	return &hsm.Error{
		Op:     op,
		Kind:   hsm.ErrUnavailable,
		Detail: "the process of the HSM was replaced during the call",
	}
}

// isKeyVerdict reports whether a result says something about the key or its data. If the token was
// replaced during the call, such a result counts as a fault.
func isKeyVerdict(err error) bool {
	return err == nil || !hsm.IsFault(err) || decide.RefusalOf(err) != decide.NoRefusal ||
		errors.Is(err, hsm.ErrKeyFault)
}
