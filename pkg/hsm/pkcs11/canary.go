package pkcs11

// The canary: an operation of the proxy's own with its test key. It tells what the token does with
// an operation that is known to be good.

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

type canary struct {
	sample atomic.Pointer[canarySample] // the last one that was opened
	missed atomic.Pointer[time.Time]    // when the test key was last looked for and not found
}

type canarySample struct {
	key    hsm.KeyRef
	made   *entry // what the key was when it was made
	sealed hsm.Sealed
}

// knownGood reports whether the operation has to succeed on a token that is well. A sample need
// not, if the test key has another handle now: it may have been made anew.
func (op *operation) knownGood() bool {
	return op.isCanary && (op.made == nil || op.entry.isStill(op.made))
}

// isStill reports whether the handle is the one it was.
func (e *entry) isStill(before *entry) bool {
	return e.handle == before.handle && e.logins == before.logins
}

var (
	canaryAAD       = []byte("xks-proxy canary")
	canaryPlaintext = []byte("the bird is alive")
)

// errNoTestKey: the configuration names no test key, or the token has none that can be used.
var errNoTestKey = errors.New("no test key on the token")

// vouch returns nil if the token encrypts, or decrypts, with the test key on this session,
// errNoTestKey if there is none, and otherwise what is wrong.
func (t *Token) vouch(ctx context.Context, at *seat, decrypt bool) error {
	if !decrypt {
		_, err := t.sealCanary(ctx, at)
		return err
	}
	sample := t.canary.sample.Load()
	if sample != nil {
		err := t.openCanary(ctx, at, sample)
		if err == nil {
			return nil
		}
		// The test key may be another one now, for which the sample is worthless.
		t.canary.sample.CompareAndSwap(sample, nil)
	}
	sample, err := t.sealCanary(ctx, at)
	if err != nil {
		return err
	}
	err = t.openCanary(ctx, at, sample)
	if err != nil {
		return err
	}
	t.canary.sample.Store(sample)
	return nil
}

// firstCanary makes the sample, so that later ones cost one call.
func (t *Token) firstCanary(ctx context.Context) {
	s, err := t.work.get(ctx)
	if err != nil {
		return
	}
	at := &seat{from: t.work, s: s}
	err = t.vouch(ctx, at, true)
	at.leave(err == nil || errors.Is(err, errNoTestKey))
}

// testKey gives the version of the test key to use, or errNoTestKey. If the table has none,
// because its handle was stale for example, it looks at the token, at most once in refusalAge.
func (t *Token) testKey(ctx context.Context) (hsm.KeyRef, error) {
	key, ok := t.keys.newest(t.config.TestKey)
	missed := t.canary.missed.Load()
	if ok {
		t.canary.missed.CompareAndSwap(missed, nil)
		return key, nil
	}
	if t.config.TestKey == "" || missed != nil && time.Since(*missed) < refusalAge {
		return hsm.KeyRef{}, errNoTestKey
	}
	_, err := t.findOnce(ctx, t.config.TestKey)
	if err != nil {
		return hsm.KeyRef{}, err
	}
	key, ok = t.keys.newest(t.config.TestKey)
	if !ok {
		now := time.Now()
		t.canary.missed.Store(&now)
		return hsm.KeyRef{}, errNoTestKey
	}
	return key, nil
}

// sealCanary makes a sample.
func (t *Token) sealCanary(ctx context.Context, at *seat) (*canarySample, error) {
	key, err := t.testKey(ctx)
	if err != nil {
		return nil, err
	}
	op := operation{name: "encrypt the canary", isCanary: true, key: key, aad: canaryAAD,
		data: canaryPlaintext}
	err = t.perform(ctx, &op, at)
	if err != nil && !hsm.IsFault(err) {
		return nil, errNoTestKey // it is gone, or cannot be read
	}
	if err != nil {
		return nil, err
	}
	return &canarySample{key: key, made: op.entry, sealed: op.sealed}, nil
}

func (t *Token) openCanary(ctx context.Context, at *seat, sample *canarySample) error {
	op := operation{name: "decrypt the canary", isCanary: true, decrypt: true, key: sample.key,
		made: sample.made, aad: canaryAAD, data: sample.sealed.Ciphertext,
		iv: sample.sealed.IV, tag: sample.sealed.Tag}
	err := t.perform(ctx, &op, at)
	if err != nil {
		return err
	}
	if string(op.plaintext) != string(canaryPlaintext) {
		return &hsm.Error{Op: op.name, Kind: hsm.ErrUnavailable,
			Detail: "the HSM returned a wrong plaintext"}
	}
	return nil
}
