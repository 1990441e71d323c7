package group_test

// Faults of the request, as many as they may be, say nothing of an HSM.

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// TestTamperedStream: ciphertexts that do not authenticate, 1000 a second, leave
// no trace in the state of any HSM, and no state of the group grows (requirement D2).
func TestTamperedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, withCrossChecks)
		time.Sleep(15 * time.Second) // the keys are compared: one definite refusal is proof
		good, _, err := request(t, g)
		if err != nil {
			t.Fatal(err)
		}
		bad := hsm.Sealed{IV: good.IV, Ciphertext: good.Ciphertext, Tag: slices.Clone(good.Tag)}
		bad.Tag[0] ^= 1
		for range 10_000 {
			ctx, cancel := context.WithTimeout(t.Context(), budget)
			_, trace, err := g.Decrypt(ctx, ref, aad, bad)
			cancel()
			if !errors.Is(err, hsm.ErrInvalidCiphertext) || trace.Attempts != 1 {
				t.Fatalf("got %v, %+v", err, trace)
			}
			time.Sleep(time.Millisecond)
		}
		state := g.Status()
		if state.Hedges+state.HedgesDenied+state.Retries != 0 {
			t.Errorf("got %+v", state)
		}
		for _, m := range state.Members {
			if m.Service != status.InService || m.Faults != 0 || m.Slow != 0 || m.Trips != 0 ||
				m.LastFault != "" ||
				m.Health.Status != status.Active ||
				m.Requests < 4900 {
				t.Errorf("got %+v", m)
			}
		}
	})
}
