package pkcs11

// The canary: a ciphertext of the proxy's own. If the token still decrypts it, an
// answer that could mean bad ciphertext or a fault of the HSM means bad ciphertext.

import (
	"context"
	"errors"
	"sync/atomic"

	"xks-proxy/pkg/hsm"
)

type canary struct {
	pool   *pool // one session of its own: it must not wait for those it judges
	sample atomic.Pointer[canarySample]
	shared *sharedCheck // of checkCanary
}

type canarySample struct {
	key    hsm.KeyRef
	sealed hsm.Sealed
}

var (
	canaryAAD       = []byte("xks-proxy canary")
	canaryPlaintext = []byte("the bird is alive")
)

// checkCanary returns nil if the token encrypts and decrypts as it should, and
// otherwise what is wrong. Without a test key on the token the evidence is
// weaker: that the token is present and we are logged in. Not to be called but by
// canary.shared, since the pool has one session.
func (t *Token) checkCanary(ctx context.Context) error {
	sample := t.canary.sample.Load()
	if sample != nil {
		err := t.tryCanary(ctx, sample)
		if err == nil {
			return nil
		}
		// The test key may have been made anew, so that the sample is worthless.
		t.canary.sample.CompareAndSwap(sample, nil)
	}
	key, ok := t.keys.newest(t.config.TestKey)
	if !ok {
		return t.login.ensure(ctx)
	}
	sample, err := t.makeCanary(ctx, key)
	if errors.Is(err, hsm.ErrKeyNotFound) {
		return t.login.ensure(ctx)
	}
	if err != nil {
		return err
	}
	err = t.tryCanary(ctx, sample)
	if err != nil {
		return err
	}
	t.canary.sample.Store(sample)
	return nil
}

func (t *Token) makeCanary(ctx context.Context, key hsm.KeyRef) (*canarySample, error) {
	op := operation{name: "make the canary", isCanary: true, key: key, aad: canaryAAD, data: canaryPlaintext}
	err := t.do(ctx, &op, t.canary.pool)
	if err != nil {
		return nil, err
	}
	return &canarySample{key: key, sealed: op.sealed}, nil
}

func (t *Token) tryCanary(ctx context.Context, sample *canarySample) error {
	op := operation{name: "decrypt the canary", isCanary: true, decrypt: true, key: sample.key, aad: canaryAAD,
		data: sample.sealed.Ciphertext, iv: sample.sealed.IV, tag: sample.sealed.Tag}
	err := t.do(ctx, &op, t.canary.pool)
	if err != nil {
		return err
	}
	if string(op.plaintext) != string(canaryPlaintext) {
		return &hsm.Error{Op: op.name, Kind: hsm.ErrUnavailable, Detail: "the HSM returned a wrong plaintext"}
	}
	return nil
}
