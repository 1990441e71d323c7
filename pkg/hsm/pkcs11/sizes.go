package pkcs11

// Sizes that the HSM refuses in words of its own, and that the profile does not know of.

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

// sizeTime is how long a size is refused without a call. Then the HSM is asked again.
const sizeTime = time.Minute

// sizeLimits are the shortest inputs that were refused; 0 is no limit. Operations read them
// without a lock.
type sizeLimits struct {
	known atomic.Pointer[sizeLimit]
}

type sizeLimit struct {
	aad, data, total int // bytes; as many, or more, are refused
	until            time.Time
}

// limits are those of the operation's direction.
func (t *Token) limits(op *operation) *sizeLimits {
	if op.decrypt {
		return &t.sizes[1]
	}
	return &t.sizes[0]
}

// isLong reports whether the input is longer than the canary's, so that its size can be to blame.
func (op *operation) isLong() bool {
	return len(op.aad) > len(canaryAAD) || len(op.data) > len(canaryPlaintext)
}

// refuse gives ErrTooLarge for an input that is as long as one that was refused.
func (l *sizeLimits) refuse(op *operation) error {
	known := l.known.Load()
	if known == nil || time.Now().After(known.until) {
		return nil
	}
	aad, data := len(op.aad), len(op.data)
	if aad < known.aad && data < known.data && aad+data < known.total {
		return nil
	}
	return &hsm.Error{Op: op.name, Kind: hsm.ErrTooLarge,
		Detail: fmt.Sprintf("%d bytes of AAD and %d of data; the HSM lately refused %s",
			aad, data, known)}
}

func (l *sizeLimit) String() string {
	switch {
	case l.aad != math.MaxInt:
		return fmt.Sprintf("%d bytes of AAD", l.aad)
	case l.data != math.MaxInt:
		return fmt.Sprintf("%d bytes of data", l.data)
	default:
		return fmt.Sprintf("%d bytes of AAD and data together", l.total)
	}
}

// learn keeps the limit with those that are still believed.
func (l *sizeLimits) learn(found sizeLimit) {
	for {
		before := l.known.Load()
		merged := found
		if before != nil && time.Now().Before(before.until) {
			merged.aad = min(found.aad, before.aad)
			merged.data = min(found.data, before.data)
			merged.total = min(found.total, before.total)
		}
		merged.until = time.Now().Add(sizeTime)
		if l.known.CompareAndSwap(before, &merged) {
			return
		}
	}
}

// measure has the test key take inputs of the operation's size. If the HSM refuses them, it
// keeps the limit and describes it. An error means that the HSM fails otherwise too.
func (t *Token) measure(ctx context.Context, op *operation, at *seat) (string, error) {
	aad, data := len(op.aad), len(op.data)
	fits, err := t.fits(ctx, op.decrypt, at, aad, data)
	if fits || err != nil {
		return "", err
	}
	aadFits, err := t.fits(ctx, op.decrypt, at, aad, min(data, len(canaryPlaintext)))
	if err != nil {
		return "", err
	}
	dataFits, err := t.fits(ctx, op.decrypt, at, min(aad, len(canaryAAD)), data)
	if err != nil {
		return "", err
	}
	found := sizeLimit{aad: math.MaxInt, data: math.MaxInt, total: math.MaxInt}
	switch {
	case aadFits && dataFits:
		found.total = aad + data
	case dataFits:
		found.aad = aad
	case aadFits:
		found.data = data
	default:
		found.aad, found.data = aad, data
	}
	t.limits(op).learn(found)
	return "the HSM takes shorter inputs, and refused " + found.String(), nil
}

// fits reports whether the test key takes so many bytes. A refusal counts if a canary succeeds
// right after it; otherwise the error is the canary's.
func (t *Token) fits(
	ctx context.Context, decrypt bool, at *seat, aad, data int,
) (bool, error) {
	key, err := t.testKey(ctx)
	if err != nil {
		return false, err
	}
	seal := operation{name: "encrypt as much with the test key", key: key, aad: make([]byte, aad),
		data: make([]byte, data)}
	err = t.perform(ctx, &seal, at)
	if err == nil && decrypt {
		open := operation{name: "decrypt as much with the test key", decrypt: true, key: key,
			aad: seal.aad, data: seal.sealed.Ciphertext, iv: seal.sealed.IV, tag: seal.sealed.Tag}
		err = t.perform(ctx, &open, at)
	}
	if err == nil {
		return true, nil
	}
	if at.s != nil {
		err = at.renew(ctx) // whatever the refusal left behind
		if err != nil {
			return false, err
		}
	}
	return false, t.vouch(ctx, at, decrypt)
}
