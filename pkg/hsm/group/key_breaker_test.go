package group_test

// A key that fails alone is taken out alone (requirement R7).

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

func keyFault(context.Context, hsmtest.Op, hsm.KeyRef) error {
	return &hsm.Error{Op: "encrypt", Function: "C_EncryptInit", Code: 0x30, Kind: hsm.ErrKeyFault}
}

// TestKeyFailsOnOne: the other HSM serves the key at once, and the first serves all other keys.
func TestKeyFailsOnOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			token.AddKey("other", 1)
		}
		var logs *observer.ObservedLogs
		g := start(t, tokens, inOrder, logTo(&logs))
		calls := 0
		tokens[0].SetHook(
			onKey(ref.Label, func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
				calls++
				return keyFault(ctx, op, key)
			}),
		)
		for range 1000 {
			served(t, g, "b")
			_, trace, err := g.Encrypt(
				inBudget(t),
				hsm.KeyRef{Label: "other", Version: 1},
				aad,
				text,
			)
			if err != nil || trace.HSM != "a" {
				t.Fatalf("another key: %+v, %v", trace, err)
			}
			time.Sleep(10 * ms)
		}
		if calls > 6 {
			t.Errorf("the HSM was asked %d times in 10 s for a key that fails on it", calls)
		}
		neverOut(t, logs)
		wantFound(t, g, "key fails: k 1 [a]")
		key, err := g.Key(inBudget(t), ref.Label)
		if err != nil || key.Complete() {
			t.Errorf("the key is called complete: %v", err)
		}
		m := g.Status().Members[0]
		if m.Faults != 0 || m.KeyFaults == 0 {
			t.Errorf("got %+v", m)
		}
		tokens[0].SetHook(nil)
		time.Sleep(30 * time.Second)
		served(t, g, "a")
		wantFound(t, g, "")
	})
}

// TestKeyFailsOnAll: thirty requests a second for it take no HSM out, and cost two calls each.
func TestKeyFailsOnAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		for _, token := range tokens {
			token.SetHook(onKey(ref.Label, keyFault))
		}
		for range 300 {
			_, trace, err := request(t, g)
			wantError(t, err, hsm.ErrUnavailable)
			if trace.Attempts > 2 {
				t.Fatalf("%d attempts", trace.Attempts)
			}
			time.Sleep(33 * ms)
		}
		neverOut(t, logs)
		for _, m := range g.Status().Members {
			if m.Service != status.InService || m.Trips != 0 || m.Faults != 0 {
				t.Errorf("got %+v", m)
			}
		}
	})
}

// TestRefusedUsage: an HSM refuses a key although its attributes allow it. Encrypt is
// ErrKeyUsage after one attempt each time, and the metadata tells the truth (K1).
func TestRefusedUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs))
		for _, token := range tokens {
			token.SetHook(onKey(ref.Label, on(hsmtest.OpEncrypt, failWith(hsm.ErrKeyUsage))))
		}
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrKeyUsage)
		if trace.Attempts != 1 {
			t.Errorf("%d attempts", trace.Attempts)
		}
		key, err := g.Key(inBudget(t), ref.Label)
		if err != nil || key.Usage != hsm.CanDecrypt {
			t.Fatalf("got %+v, %v", key, err)
		}
		_, trace, err = request(t, g)
		wantError(t, err, hsm.ErrKeyUsage)
		if trace.Attempts != 1 {
			t.Errorf("%d attempts", trace.Attempts)
		}
		neverOut(t, logs)

		for _, token := range tokens {
			token.SetHook(nil)
		}
		_, _, err = request(t, g) // what was changed on the HSM shows at once
		if err != nil {
			t.Fatal(err)
		}
		key, err = g.Key(inBudget(t), ref.Label)
		if err != nil || key.Usage != hsm.CanEncrypt|hsm.CanDecrypt {
			t.Fatalf("got %+v, %v", key, err)
		}
	})
}

// TestRenewal: an HSM whose probes fail while its process lives gets a new one: at once where no
// other is left, else after three.
func TestRenewal(t *testing.T) {
	for _, test := range []struct {
		hsms  int
		after time.Duration
	}{{1, 0}, {2, 400 * ms}} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(test.hsms)
			w := &supervised{}
			w.incarnation.Store(1)
			start(t, tokens, supervise(w))
			tokens[0].SetHook(all(down))
			w.changed <- struct{}{}
			time.Sleep(test.after + ms)
			if n := w.renewals.Load(); n != 1 {
				t.Errorf("%d HSMs: %d renewals after %v", test.hsms, n, test.after)
			}
			tokens[0].SetHook(nil)
			time.Sleep(time.Minute)
			before := w.renewals.Load()
			time.Sleep(time.Minute)
			if n := w.renewals.Load(); n != before {
				t.Errorf("a healthy HSM was renewed")
			}
		})
	}
}
