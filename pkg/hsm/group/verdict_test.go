package group_test

// A ciphertext is called invalid with proof only (requirement D2).

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// refuses lets an HSM answer decrypts of requests with one kind of refusal.
func refuses(kind error) hsmtest.Hook {
	return onKey(ref.Label, on(hsmtest.OpDecrypt, failWith(kind)))
}

// TestVerdicts: what one, two or no HSMs say of a good ciphertext, and what the group makes of it.
func TestVerdicts(t *testing.T) {
	definite, ambiguous, unproven := hsm.ErrInvalidCiphertext, hsm.ErrRefusedCiphertext, hsm.ErrUnprovenCiphertext
	for _, test := range []struct {
		name     string
		compared bool
		a, b     error // what the HSMs answer; nil: the plaintext
		want     error
	}{
		{"definite, compared", true, definite, nil, definite},
		{"definite, not compared, the other reads it", false, definite, nil, nil},
		{"definite, not compared, the other is away", false, definite, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"definite, not compared, the other refuses", false, definite, ambiguous, definite},
		{"ambiguous, compared, the other reads it", true, ambiguous, nil, nil},
		{"ambiguous, compared, the other refuses", true, ambiguous, ambiguous, definite},
		{"ambiguous, compared, the other is away", true, ambiguous, hsm.ErrUnavailable, definite},
		{"ambiguous, compared, the other proves nothing", true, ambiguous, unproven, definite},
		{"ambiguous, not compared, the other proves nothing", false, ambiguous, unproven, hsm.ErrUnavailable},
		{"ambiguous, not compared, the other is away", false, ambiguous, hsm.ErrUnavailable, hsm.ErrUnavailable},
		{"unproven, the other reads it", true, unproven, nil, nil},
		{"unproven twice", true, unproven, unproven, hsm.ErrUnavailable},
		{"unproven, the other is away", true, unproven, hsm.ErrUnavailable, hsm.ErrUnavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				options := []option{inOrder}
				if test.compared {
					options = append(options, withCrossChecks)
				}
				g := start(t, tokens, options...)
				time.Sleep(15 * time.Second)
				sealed, _, err := request(t, g)
				if err != nil {
					t.Fatal(err)
				}
				for i, answer := range []error{test.a, test.b} {
					switch {
					case errors.Is(answer, hsm.ErrUnavailable):
						tokens[i].SetHook(all(down))
						time.Sleep(10 * time.Second) // the probe takes it out
					case answer != nil:
						tokens[i].SetHook(refuses(answer))
					}
				}
				plaintext, _, err := g.Decrypt(inBudget(t), ref, aad, sealed)
				switch {
				case test.want == nil:
					if err != nil || !bytes.Equal(plaintext, text) {
						t.Errorf("got %q, %v", plaintext, err)
					}
				case !errors.Is(err, test.want) || test.want != definite && errors.Is(err, definite):
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// TestLoneHSM: with one HSM in the group its definite and its confirmed ambiguous refusals count.
func TestLoneHSM(t *testing.T) {
	for _, test := range []struct{ answer, want error }{
		{hsm.ErrInvalidCiphertext, hsm.ErrInvalidCiphertext},
		{hsm.ErrRefusedCiphertext, hsm.ErrInvalidCiphertext},
		{hsm.ErrUnprovenCiphertext, hsm.ErrUnavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(1)
			g := start(t, tokens)
			tokens[0].SetHook(refuses(test.answer))
			_, _, err := g.Decrypt(
				inBudget(t),
				ref,
				aad,
				hsm.Sealed{IV: make([]byte, 12), Tag: make([]byte, 16)},
			)
			wantError(t, err, test.want)
			if m := g.Status().Members[0]; m.Service != status.InService || m.Faults != 0 {
				t.Errorf("a refusal counts against the HSM: %+v", m)
			}
		})
	}
}

// TestBusyPair: both HSMs answer part of all decrypts without proof. No good ciphertext is called
// invalid, nearly all are read, and no HSM goes out.
func TestBusyPair(t *testing.T) {
	for _, share := range []float64{0.1, 0.3, 0.5} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(2)
			g := start(t, tokens, withCrossChecks)
			time.Sleep(15 * time.Second)
			sealed, _, err := request(t, g)
			if err != nil {
				t.Fatal(err)
			}
			busy := onKey(
				ref.Label,
				on(hsmtest.OpDecrypt, func(context.Context, hsmtest.Op, hsm.KeyRef) error {
					if rand.Float64() < share {
						return &hsm.Error{Kind: hsm.ErrUnprovenCiphertext}
					}
					return nil
				}),
			)
			for _, token := range tokens {
				token.SetHook(busy)
			}
			failed := 0
			for range 10_000 {
				ctx, cancel := context.WithTimeout(t.Context(), budget)
				_, _, err := g.Decrypt(ctx, ref, aad, sealed)
				cancel()
				if errors.Is(err, hsm.ErrInvalidCiphertext) {
					t.Fatalf("a good ciphertext was called invalid: %v", err)
				}
				if err != nil {
					failed++
				}
				time.Sleep(time.Millisecond)
			}
			if float64(failed) > 1.3*share*share*share*share*10_000+5 {
				t.Errorf("%d of 10,000 failed at %g", failed, share)
			}
			for _, m := range g.Status().Members {
				if m.Trips != 0 || m.Service != status.InService {
					t.Errorf("got %+v", m)
				}
			}
		})
	}
}

// TestTamperedWithBoth: every tampered ciphertext is found on a healthy pair, ambiguous or not.
func TestTamperedWithBoth(t *testing.T) {
	for _, kind := range []error{hsm.ErrInvalidCiphertext, hsm.ErrRefusedCiphertext} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(2)
			g := start(t, tokens, withCrossChecks)
			time.Sleep(15 * time.Second)
			good, _, err := request(t, g)
			if err != nil {
				t.Fatal(err)
			}
			for _, token := range tokens {
				token.SetHook(refuses(kind))
			}
			bad := hsm.Sealed{IV: good.IV, Ciphertext: good.Ciphertext, Tag: slices.Clone(good.Tag)}
			bad.Tag[0] ^= 1
			for range 1000 {
				_, trace, err := g.Decrypt(inBudget(t), ref, aad, bad)
				wantError(t, err, hsm.ErrInvalidCiphertext)
				if trace.Attempts > 2 {
					t.Fatalf("it took %d attempts", trace.Attempts)
				}
			}
		})
	}
}
