package group

// Encrypt and Decrypt of a group: what one request asks of its HSMs, and what it
// makes of their answers. How they are asked is in race.go.

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

// Encrypt is Token.Encrypt on whichever HSM can. The version is one that
// Key.EncryptVersion gave. Errors are those of Token; ErrUnavailable
// and ErrTimeout say that no HSM that holds the key could serve it. ctx needs a
// deadline: what is slow is waited for until then.
//
// An HSM named in apart is passed over for one of the same priority, if that is in service.
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

// Decrypt is Token.Decrypt on whichever HSM can; apart is as for Encrypt. ErrInvalidCiphertext is
// proven (verdict.go); without proof the error is ErrUnavailable.
func (g *Group) Decrypt(
	ctx context.Context,
	ref hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
	apart ...string,
) ([]byte, Trace, error) {
	return serve(ctx, g, ref, apart, decryption(ref, aad, sealed))
}

// verify is Decrypt of a ciphertext that was just made. That it is good is known, so the first HSM
// that refuses it ends the matter, with ErrInvalidCiphertext: it could not read the data later.
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

// checkSealed refuses what KMS could not use (requirement E2): better another
// HSM's answer than a ciphertext that cannot be decrypted.
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

// giveUp is the error of a request that no HSM answered. refusal is what HSMs said of the
// request itself: that the key is not there, or a ciphertext under a key that is not the same on
// all.
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
				"key %q, HSMs asked in vain: %d%s",
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
		// The HSMs that should hold it say that it is gone. Believe it after asking all.
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

// notCompared is why an HSM does not serve a key (requirement R6).
const notVerified = "its token or its keys have changed, and this key was not compared with another HSM since"

// replacedError is the fault of a call under which the HSM's process was replaced: the answer may
// come from another token.
func replacedError(op string) error {
	return &hsm.Error{
		Op:     op,
		Kind:   hsm.ErrUnavailable,
		Detail: "the process of the HSM was replaced during the call",
	}
}

// isStatement reports whether a result says something of the key or its data. Nothing is known of a
// token that came during the call, so what it says of them counts no more than a fault.
func isKeyVerdict(err error) bool {
	return err == nil || !hsm.IsFault(err) || decide.RefusalOf(err) != decide.NoRefusal ||
		errors.Is(err, hsm.ErrKeyFault)
}
