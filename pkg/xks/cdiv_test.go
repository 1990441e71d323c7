package xks

// The integrity value when an HSM computes wrongly: what is answered is right, or is no answer
// (requirement E4).

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

func flips(on hsmtest.Op, every int64) hsmtest.Hook {
	var n atomic.Int64
	return func(_ context.Context, op hsmtest.Op, ref hsm.KeyRef) error {
		if op == on && ref.Label != testKey && n.Add(1)%every == 0 {
			return hsmtest.ErrFlipBit
		}
		return nil
	}
}

func TestIntegrityValueOfABrokenHSM(t *testing.T) {
	plaintext, aad := pattern(64), pattern(33)
	request := encryptFields(plaintext).with("additionalAuthenticatedData", b64(aad)).
		with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")
	for _, c := range []struct {
		name    string
		a, b    hsmtest.Hook
		some    bool // some requests must be answered well
		healthy bool // all must
	}{
		{"A encrypts wrongly", flips(hsmtest.OpEncrypt, 1), nil, true, true}, // R1: B could serve
		{"A decrypts wrongly", flips(hsmtest.OpDecrypt, 1), nil, true, true},
		{"A does both wrongly", func(ctx context.Context, op hsmtest.Op, ref hsm.KeyRef) error {
			if ref.Label == testKey {
				return nil
			}
			return hsmtest.ErrFlipBit
		}, nil, true, true},
		{"B now and then", nil, flips(hsmtest.OpEncrypt, 3), true, true},
		{"both decrypt wrongly now and then", flips(hsmtest.OpDecrypt, 3), flips(hsmtest.OpDecrypt, 3), true, false},
		{"both encrypt wrongly", flips(hsmtest.OpEncrypt, 1), flips(hsmtest.OpEncrypt, 1), false, false},
		{"none", nil, nil, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.a.SetHook(c.a)
			r.b.SetHook(c.b)
			good := atomic.Int64{}
			const requests = 60
			var all sync.WaitGroup
			for range 4 { // at once, so that either HSM gets either part
				all.Go(func() {
					for range requests / 4 {
						p := r.encrypt(goodKey, request)
						if p.status != http.StatusOK {
							p.want(t, internal)
							continue
						}
						good.Add(1)
						mustBeRight(t, p, aad, plaintext)
					}
				})
			}
			all.Wait()
			if n := good.Load(); c.healthy && n != requests || c.some && n == 0 ||
				strings.HasPrefix(c.name, "both encrypt") && n != 0 {
				t.Errorf("%d of %d requests were answered", n, requests)
			}
		})
	}
}

// E4: with VerifyOnSame the HSM that encrypted verifies.
func TestVerifyOnSame(t *testing.T) {
	for _, same := range []bool{false, true} {
		r := newRig(t, func(c *Config, _ *group.Config) { c.KeyStores[0].VerifyOnSame = same })
		for range 10 {
			r.encrypt(goodKey, encryptFields(pattern(64)).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256")).
				wantOK(t)
			line := r.lastLine()
			if (line["hsm"] == line["verified_by"]) != same {
				t.Errorf(
					"encrypted by %v, verified by %v; on the same: %v", line["hsm"],
					line["verified_by"], same,
				)
			}
		}
	}
}

// E4: the verifying decrypt goes to the other HSM, so that two different keys under one label are
// found out before data depends on one of them.
func TestIntegrityValueOfDifferentKeys(t *testing.T) {
	r := newRig(t)
	r.b.RemoveKey(goodKey)
	for _, version := range []uint32{1, 2} {
		r.b.AddObject(hsmtest.Object(goodKey, version), bytes.Repeat([]byte{9}, hsm.KeySize))
	}
	for range 20 {
		p := r.encrypt(
			goodKey,
			encryptFields(pattern(64)).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
		)
		p.want(t, internal)
	}
}

// mustBeRight decrypts a reply without the code under test.
func mustBeRight(t *testing.T, p reply, aad, plaintext []byte) {
	t.Helper()
	token := hsmtest.New("judge")
	fillToken(token)
	metadata, sealed := p.bytes(t, "ciphertextMetadata"), hsm.Sealed{
		IV: p.bytes(t, "initializationVector"), Ciphertext: p.bytes(t, "ciphertext"),
		Tag: p.bytes(t, "authenticationTag"),
	}
	frame := slices.Concat([]byte{0, byte(len(aad))}, aad, []byte{byte(len(metadata))}, metadata)
	opened, err := token.Decrypt(t.Context(), hsm.KeyRef{Label: goodKey, Version: 2}, frame, sealed)
	if err != nil || !bytes.Equal(opened, plaintext) {
		t.Errorf("a wrong answer: %v", err)
	}
	want := sha256.Sum256(slices.Concat(aad, metadata, sealed.IV, sealed.Ciphertext, sealed.Tag))
	if !bytes.Equal(p.bytes(t, "ciphertextDataIntegrityValue"), want[:]) {
		t.Error("a wrong integrity value")
	}
}

// E4, L1: one fault is fixed by the second try; the log names who really served, and tells of the
// fault.
func TestIntegrityIsTriedAgain(t *testing.T) {
	r := newRig(t)
	var broken atomic.Value
	once := func(name string) hsmtest.Hook {
		return func(_ context.Context, op hsmtest.Op, ref hsm.KeyRef) error {
			if op == hsmtest.OpEncrypt && ref.Label == goodKey && broken.CompareAndSwap(nil, name) {
				return hsmtest.ErrFlipBit
			}
			return nil
		}
	}
	r.a.SetHook(once("hsm-a"))
	r.b.SetHook(once("hsm-b"))
	p := r.encrypt(
		goodKey,
		encryptFields(pattern(64)).with("ciphertextDataIntegrityValueAlgorithm", "SHA_256"),
	)
	p.wantOK(t)
	mustBeRight(t, p, nil, pattern(64))
	line := r.lastLine()
	faults, _ := line["hsm_faults"].([]any)
	if line["attempts"] != int64(4) || len(faults) != 1 ||
		!strings.Contains(faults[0].(string), "does not decrypt") {
		t.Errorf("attempts %v, faults %v", line["attempts"], line["hsm_faults"])
	}
	if entry := r.logs.FilterMessage("request").All(); entry[len(entry)-1].Level.String() != "warn" {
		t.Errorf("an HSM that computes wrongly is logged as %v", entry[len(entry)-1].Level)
	}
}
