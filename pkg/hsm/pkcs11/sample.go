package pkcs11

// Whether a key still decrypts what it encrypted. A key of which every decrypt fails with an
// ambiguous code, while the test key works, must not make its good ciphertexts look bad.

import (
	"context"
	"errors"
	"sync"

	"xks-proxy/pkg/hsm"
)

// maxSamples bounds the memory of samples: about 200 bytes each.
const maxSamples = 1000

// samples are ciphertexts of the proxy's own, one for each key that was in doubt. They are kept,
// because each uses up an IV of the key.
type samples struct {
	mu    sync.Mutex
	byUse map[keyUse]*canarySample
}

func (s *samples) get(use keyUse) *canarySample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byUse[use]
}

func (s *samples) put(use keyUse, one *canarySample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byUse == nil || len(s.byUse) >= maxSamples {
		s.byUse = map[keyUse]*canarySample{}
	}
	s.byUse[use] = one
}

// tryOwnKey makes sure that the key of a refused ciphertext decrypts anything. A key that may not
// encrypt cannot be tried. The error is final; after nil the proof goes on.
func (t *Token) tryOwnKey(ctx context.Context, op *operation, at *seat, failed *callError) error {
	if op.entry.object.Usage&hsm.CanEncrypt == 0 {
		return nil
	}
	for range 1 + proofRepeats {
		err := t.openOwn(ctx, op, at)
		if err == nil {
			return nil
		}
		err = t.vouch(ctx, at, true)
		switch {
		case errors.Is(err, errNoTestKey), err == nil && !t.doubt.isClean():
			return nil // there will be no verdict anyway
		case err != nil:
			return failed.doubted(op.name, err)
		}
	}
	failed.detail = "the key does not decrypt what it encrypted a moment ago, and the test key does"
	verdict := failed.as(op.name, hsm.ErrKeyFault)
	t.blames.put(op, verdict)
	return verdict
}

// openOwn decrypts a sample of the key, and makes one where there is none.
func (t *Token) openOwn(ctx context.Context, op *operation, at *seat) error {
	sample := t.samples.get(op.use())
	if sample == nil || !op.entry.isStill(sample.made) {
		seal := operation{name: "encrypt a sample", key: op.key, one: op.one, aad: canaryAAD,
			data: canaryPlaintext}
		err := t.perform(ctx, &seal, at)
		if err != nil {
			return err
		}
		sample = &canarySample{key: op.key, made: seal.entry, sealed: seal.sealed}
		t.samples.put(op.use(), sample)
	}
	open := operation{name: "decrypt a sample", decrypt: true, key: op.key, one: op.one,
		aad: canaryAAD, data: sample.sealed.Ciphertext, iv: sample.sealed.IV, tag: sample.sealed.Tag}
	return t.perform(ctx, &open, at)
}
