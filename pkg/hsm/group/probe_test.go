package group_test

// Tests of health (requirements H1, H2, H4, H5): what the probes find, when they
// find it, and that they touch no key but their own.

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// TestHealth: each way of being unwell, on the first of two HSMs.
func TestHealth(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*hsmtest.Token)
		want   status.Status
		reason string
	}{
		{"well", func(*hsmtest.Token) {}, status.Active, ""},
		{"slow", func(a *hsmtest.Token) { a.SetHook(slow(61 * time.Millisecond)) }, status.Degraded, "an operation of the probe took 61ms"},
		{"just fast enough", func(a *hsmtest.Token) { a.SetHook(slow(60 * time.Millisecond)) }, status.Active, ""},
		{"slower than a request lasts", func(a *hsmtest.Token) { a.SetHook(slow(200 * time.Millisecond)) }, status.Unavailable, "took 200ms, and a request has 200ms"},
		{"busy", func(a *hsmtest.Token) { a.SetHook(failWith(hsm.ErrBusy)) }, status.Degraded, "no free session"},
		{"without a test key", func(a *hsmtest.Token) { a.RemoveKey(testKey) }, status.Degraded, `"xks-proxy-test"`},
		{"with two test keys", func(a *hsmtest.Token) { a.AddKey(testKey, 0) }, status.Degraded, "the same label and version"},
		{"with a test key that may not encrypt", func(a *hsmtest.Token) {
			a.RemoveKey(testKey)
			object := hsmtest.Object(testKey, 0)
			object.Usage = hsm.CanDecrypt
			a.AddObject(object, make([]byte, hsm.KeySize))
		}, status.Degraded, "CKA_ENCRYPT"},
		{"down", func(a *hsmtest.Token) { a.SetHook(down) }, status.Unavailable, "CKR_DEVICE_ERROR (0x30)"},
		{"wrong PIN", func(a *hsmtest.Token) { a.SetHook(failWith(hsm.ErrPINIncorrect)) }, status.Unavailable, "refused the PIN"},
		{"hanging", func(a *hsmtest.Token) { a.SetHook(hang) }, status.Unavailable, "did not answer in time"},
		{"encrypts only", func(a *hsmtest.Token) { a.SetHook(on(hsmtest.OpDecrypt, down)) }, status.Unavailable, "decrypt"},
		{"decrypts its own ciphertext to something else", func(a *hsmtest.Token) {
			a.SetHook(on(hsmtest.OpDecrypt, failWithPlain(hsmtest.ErrFlipBit)))
		}, status.Unavailable, "something else"},
		{"encrypts to what it cannot decrypt", func(a *hsmtest.Token) {
			a.SetHook(on(hsmtest.OpEncrypt, failWithPlain(hsmtest.ErrFlipBit)))
		}, status.Unavailable, "does not authenticate"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens)
				test.change(tokens[0])
				time.Sleep(40 * time.Second) // listed and probed again
				health := g.Health()
				if len(health) != 2 || health[0].HSM != "a" || health[0].Status != test.want ||
					health[1].Status != status.Active ||
					health[1].Reason != "" {
					t.Fatalf("got %+v", health)
				}
				if !strings.Contains(health[0].Reason, test.reason) ||
					test.reason == "" && health[0].Reason != "" {
					t.Errorf("the reason is %q, want %q", health[0].Reason, test.reason)
				}
				if !g.CanServe() {
					t.Error("the other HSM can serve")
				}
				before := g.Status().Members[0].Requests
				for range 4 {
					_, _, err := request(t, g)
					if err != nil {
						t.Fatal(err)
					}
				}
				asked := g.Status().Members[0].Requests > before
				if asked != (test.want != status.Unavailable) {
					t.Errorf("a is asked: %v", asked)
				}
			})
		})
	}
}

func failWithPlain(err error) hsmtest.Hook {
	return func(context.Context, hsmtest.Op, hsm.KeyRef) error { return err }
}

// TestTestKeyDeleted: an HSM whose test key vanishes continues to serve from the next probe.
func TestTestKeyDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		g := start(t, tokens)
		tokens[0].RemoveKey(testKey)
		for range 80 {
			time.Sleep(500 * time.Millisecond)
			if !g.CanServe() {
				t.Fatalf("cannot serve: %+v", g.Health())
			}
		}
		if got := statuses(g); got != "a=DEGRADED " {
			t.Errorf("got %s", got)
		}
		tokens[0].AddKey(testKey, 0)
		time.Sleep(10 * time.Second)
		if got := statuses(g); got != "a=ACTIVE " {
			t.Errorf("got %s", got)
		}
	})
}

// TestNobodyIsUp: every HSM is UNAVAILABLE, which is an answer and not an error (requirement H4).
func TestNobodyIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		for _, token := range tokens {
			token.SetHook(down)
		}
		g := start(t, tokens)
		if got := statuses(g); got != "a=UNAVAILABLE b=UNAVAILABLE " || g.CanServe() {
			t.Errorf("got %s", got)
		}
		tokens[1].SetHook(nil)
		time.Sleep(time.Second)
		if got := statuses(g); got != "a=UNAVAILABLE b=ACTIVE " || !g.CanServe() {
			t.Errorf("got %s", got)
		}
	})
}

// TestBeforeTheFirstProbe: nothing is said that was not seen.
func TestBeforeTheFirstProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		tokens[0].SetHook(hang)
		g, err := group.New(configOf(tokens))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		health := g.Health()
		if health[0].Status != status.Unavailable || health[0].Reason == "" || g.CanServe() {
			t.Errorf("got %+v", health)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantError(t, g.WaitFirstProbes(ctx), context.DeadlineExceeded)
	})
}

// TestStale: an HSM that swallows its probe is UNAVAILABLE before its last result is a minute old,
// even if its Token does not keep its promise to return (requirement H2).
func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		release := make(chan struct{})
		g := start(t, tokens)
		tokens[0].SetHook(
			func(context.Context, hsmtest.Op, hsm.KeyRef) error { <-release; return nil },
		)
		time.Sleep(59 * time.Second)
		if got := statuses(g); got != "a=ACTIVE " {
			t.Errorf("before: %s", got)
		}
		time.Sleep(2 * time.Second)
		if got := statuses(g); got != "a=UNAVAILABLE " || g.CanServe() {
			t.Errorf("after: %s", got)
		}
		close(release)
		time.Sleep(time.Second)
		if got := statuses(g); got != "a=ACTIVE " { // it came back after a minute, and was probed again at once
			t.Errorf("in the end: %s", got)
		}
	})
}

// TestLongestProbes: with the slowest probes that the configuration allows, a
// hanging HSM is still found within the minute of requirement H2.
func TestLongestProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		g := start(t, tokens, func(c *group.Config) {
			c.ProbeInterval, c.ProbeTimeout = 30*time.Second, 20*time.Second
		})
		tokens[0].SetHook(hang)
		time.Sleep(51 * time.Second)
		health := g.Health()[0]
		if health.Status != status.Unavailable || time.Since(health.Checked) > time.Minute {
			t.Errorf("got %+v", health)
		}
	})
}

// TestTimeToDetectAndToHeal, without any request: by the probe alone.
func TestTimeToDetectAndToHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		until := func(want string) time.Duration {
			began := time.Now()
			for statuses(g) != want {
				time.Sleep(time.Millisecond)
				if time.Since(began) > time.Minute {
					t.Fatalf("still %s", statuses(g))
				}
			}
			return time.Since(began)
		}
		for _, test := range []struct {
			hook         hsmtest.Hook
			detect, heal time.Duration
		}{
			{down, 5001 * time.Millisecond, 201 * time.Millisecond},
			{hang, 7001 * time.Millisecond, 2201 * time.Millisecond},
		} {
			tokens[0].SetHook(test.hook)
			if took := until("a=UNAVAILABLE b=ACTIVE "); took > test.detect {
				t.Errorf("detected after %v", took)
			}
			time.Sleep(1234 * time.Millisecond)
			tokens[0].SetHook(nil)
			if took := until("a=ACTIVE b=ACTIVE "); took > test.heal {
				t.Errorf("healed after %v", took)
			}
		}
	})
}

// TestFaultsAreProbedAtOnce: requests that take an HSM out do not leave it shown as ACTIVE for
// seconds.
func TestFaultsAreProbedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		tokens[0].SetHook(all(down))
		for range 3 {
			served(t, g, "b")
		}
		synctest.Wait()
		if got := statuses(g); got != "a=UNAVAILABLE b=ACTIVE " {
			t.Errorf("got %s", got)
		}
	})
}

// TestProbesTouchOnlyTheirKey: requirement H2.
func TestProbesTouchOnlyTheirKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var own, others atomic.Int32
		for _, token := range tokens {
			token.SetHook(func(_ context.Context, op hsmtest.Op, key hsm.KeyRef) error {
				switch {
				case op == hsmtest.OpKeys:
				case key.Label == testKey:
					own.Add(1)
				default:
					others.Add(1)
				}
				return nil
			})
		}
		start(t, tokens)
		time.Sleep(10 * time.Minute)
		if others.Load() != 0 {
			t.Errorf("%d operations with other keys", others.Load())
		}
		if n := own.Load(); n < 2*2*120 || n > 2*2*125 {
			t.Errorf(
				"%d operations with the test key in ten minutes, want two each five seconds on each HSM",
				n,
			)
		}
	})
}

// TestVendorAndModel: as configured, or as the HSM says itself (requirement H1).
func TestVendorAndModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newTokens(2), func(c *group.Config) {
			c.Members[0].Vendor, c.Members[0].Model = "Vendor", "Model 7"
		})
		health := g.Health()
		if health[0].Vendor != "Vendor" || health[0].Model != "Model 7" ||
			health[1].Vendor != "hsmtest" ||
			health[1].Model != "memory" {
			t.Errorf("got %+v", health)
		}
	})
}

// TestHealthNeverWaits: the answer comes at once while every HSM hangs (requirement H2).
func TestHealthNeverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(hang)
		}
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			_ = g.Health()
			if time.Since(began) != 0 {
				t.Fatalf("took %v", time.Since(began))
			}
		}
	})
}
