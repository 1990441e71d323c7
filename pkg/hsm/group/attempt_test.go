package group_test

// Tests of the failover inside one request (requirements R1, R2, D2).

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// neverOut asserts that no HSM was taken out of service, not even until the next probe.
func neverOut(t *testing.T, logs *observer.ObservedLogs) {
	t.Helper()
	if out := logs.FilterMessageSnippet("taken out").All(); len(out) != 0 {
		t.Errorf("%d times: %s: %v", len(out), out[0].Message, out[0].ContextMap())
	}
}

// TestFaultMovesOn: any fault of the first HSM, and the second serves at once.
func TestFaultMovesOn(t *testing.T) {
	for _, kind := range []error{hsm.ErrUnavailable, hsm.ErrTimeout, hsm.ErrBusy, hsm.ErrPINIncorrect, hsm.ErrPINLocked,
		hsm.ErrTokenNotFound, hsm.ErrModule, errors.New("an error without a kind")} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, inOrder)
				tokens[0].SetHook(onRequests(failWith(kind)))
				began := time.Now()
				sealed, trace, err := request(t, g)
				if err != nil || trace.HSM != "b" || trace.Attempts != 2 ||
					len(trace.Faults) != 1 ||
					time.Since(began) != 0 {
					t.Fatalf("got %v, %+v after %v", err, trace, time.Since(began))
				}
				wantError(t, trace.Faults[0], kind)
				if !strings.HasPrefix(trace.Faults[0].Error(), "a: encrypt: ") ||
					!strings.Contains(trace.Faults[0].Error(), "CKR_DEVICE_ERROR (0x30)") {
					t.Errorf("the fault does not say where and what: %v", trace.Faults[0])
				}
				tokens[0].SetHook(nil)
				opens(t, tokens[0], ref, sealed)
				opens(t, tokens[1], ref, sealed)

				tokens[0].SetHook(onRequests(failWith(kind)))
				plaintext, trace, err := g.Decrypt(inBudget(t), ref, aad, sealed)
				if err != nil || string(plaintext) != string(text) || trace.HSM != "b" ||
					trace.Attempts != 2 {
					t.Fatalf("decrypt: got %q, %v, %+v", plaintext, err, trace)
				}
			})
		})
	}
}

// How long a request takes that nobody serves. The pauses between the rounds are
// 2, 10, 25, 50 and 50 ms, each up to a quarter shorter.
var (
	atOnce      = [2]time.Duration{0, 0}
	allRounds   = [2]time.Duration{137 * time.Millisecond * 3 / 4, 137 * time.Millisecond}
	wholeBudget = [2]time.Duration{budget, budget}
)

// TestNobodyServes: when no HSM can, the error says so inside the budget, on one line.
func TestNobodyServes(t *testing.T) {
	for _, test := range []struct {
		name   string
		a, b   hsmtest.Hook
		want   []error
		not    error
		took   [2]time.Duration // least and most
		asked  [2]int           // least and most
		faults int
	}{
		{"both down", down, down, []error{hsm.ErrUnavailable}, hsm.ErrTimeout, allRounds, [2]int{12, 12}, 2},
		{"both hang", hang, hang, []error{hsm.ErrTimeout, context.DeadlineExceeded}, hsm.ErrUnavailable, wholeBudget, [2]int{2, 2}, 2},
		{"one hangs, one down", hang, down, []error{hsm.ErrTimeout}, hsm.ErrUnavailable, wholeBudget, [2]int{4, 8}, 2},
		{"one down, one hangs", down, hang, []error{hsm.ErrTimeout}, hsm.ErrUnavailable, wholeBudget, [2]int{4, 8}, 2},
		{"both busy", failWith(hsm.ErrBusy), failWith(hsm.ErrBusy), []error{hsm.ErrBusy}, hsm.ErrUnavailable, atOnce, [2]int{2, 2}, 2},
		{"one busy, one down", failWith(hsm.ErrBusy), down, []error{hsm.ErrUnavailable}, hsm.ErrBusy, allRounds, [2]int{12, 12}, 2},
		{"one says the key is gone, one down", failWith(hsm.ErrKeyNotFound), down, []error{hsm.ErrUnavailable}, hsm.ErrKeyNotFound, allRounds, [2]int{12, 12}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, inOrder)
				tokens[0].SetHook(onRequests(test.a))
				tokens[1].SetHook(onRequests(test.b))
				began := time.Now()
				sealed, trace, err := request(t, g)
				wantError(t, err, test.want...)
				if errors.Is(err, test.not) {
					t.Errorf("%v is %v as well", err, test.not)
				}
				if took := time.Since(began); took < test.took[0] || took > test.took[1] {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if trace.HSM != "" || trace.Attempts < test.asked[0] ||
					trace.Attempts > test.asked[1] ||
					len(trace.Faults) != test.faults ||
					sealed.Ciphertext != nil {
					t.Errorf("got %+v, %+v", sealed, trace)
				}
				if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "nil") ||
					!strings.Contains(err.Error(), `"k"`) {
					t.Errorf("not a sentence for an operator: %q", err)
				}
			})
		})
	}
}

// TestNoTimeLeft: a request that comes too late asks nobody, and reports that.
func TestNoTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, trace, err := g.Encrypt(ctx, ref, aad, text)
		wantError(t, err, hsm.ErrTimeout, context.Canceled)
		if trace.Attempts != 0 || strings.Contains(err.Error(), "nil") {
			t.Errorf("got %+v, %v", trace, err)
		}
	})
}

// TestUnknownKey: encrypting under what no HSM is known to hold asks none of them.
func TestUnknownKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newTokens(2))
		_, trace, err := g.Encrypt(inBudget(t), hsm.KeyRef{Label: "k", Version: 99}, aad, text)
		wantError(t, err, hsm.ErrUnavailable)
		if trace.Attempts != 0 {
			t.Errorf("got %+v", trace)
		}
	})
}

// TestRequestFaults: what another HSM would answer the same is answered at once,
// by the first, and never counts against it (requirement D2).
func TestRequestFaults(t *testing.T) {
	for _, kind := range []error{hsm.ErrInvalidCiphertext, hsm.ErrKeyUsage} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				var logs *observer.ObservedLogs
				g := start(t, tokens, inOrder, logTo(&logs))
				before := tokens[1].Calls(hsmtest.OpEncrypt)
				tokens[0].SetHook(onRequests(failWith(kind)))
				for range 100 {
					_, trace, err := request(t, g)
					wantError(t, err, kind)
					if trace.HSM != "a" || trace.Attempts != 1 || len(trace.Faults) != 0 ||
						!strings.HasPrefix(err.Error(), "a: ") {
						t.Fatalf("got %+v, %v", trace, err)
					}
				}
				if got := tokens[1].Calls(hsmtest.OpEncrypt); got != before {
					t.Errorf("the other HSM was asked %d times", got-before)
				}
				neverOut(t, logs)
			})
		})
	}
}

// TestTampered: 10,000 ciphertexts that do not authenticate leave both HSMs in service.
func TestTampered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, logTo(&logs), withCrossChecks)
		time.Sleep(15 * time.Second) // the keys are compared: one definite refusal is proof
		good, _, err := request(t, g)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10000 {
			bad := hsm.Sealed{
				IV:         slices.Clone(good.IV),
				Ciphertext: slices.Clone(good.Ciphertext),
				Tag:        slices.Clone(good.Tag),
			}
			part := [][]byte{bad.IV, bad.Ciphertext, bad.Tag}[i%3]
			part[i%len(part)] ^= byte(1 + i%255)
			plaintext, trace, err := g.Decrypt(inBudget(t), ref, aad, bad)
			wantError(t, err, hsm.ErrInvalidCiphertext)
			if plaintext != nil || trace.Attempts != 1 || trace.HSM == "" ||
				len(trace.Faults) != 0 {
				t.Fatalf("got %q, %+v", plaintext, trace)
			}
		}
		by := map[string]int{}
		for range 10 {
			_, trace, err := g.Decrypt(inBudget(t), ref, aad, good)
			if err != nil {
				t.Fatal(err)
			}
			by[trace.HSM]++
		}
		if by["a"] != 5 || by["b"] != 5 {
			t.Errorf("served by %v afterwards", by)
		}
		neverOut(t, logs)
	})
}

// TestCancel: a caller that hangs up says nothing about the HSM.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[1].AddKey("only b", 1)
		var logs *observer.ObservedLogs
		g := start(t, tokens, inOrder, logTo(&logs))
		for _, token := range tokens {
			token.SetHook(onRequests(hang))
		}
		for _, test := range []struct {
			after    time.Duration
			attempts int
		}{{10 * time.Millisecond, 1}, {150 * time.Millisecond, 2}} {
			for range 2 {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(test.after, cancel)
				_, trace, err := g.Encrypt(ctx, ref, aad, text)
				wantError(t, err, hsm.ErrTimeout, context.Canceled)
				if trace.Attempts != test.attempts {
					t.Fatalf("got %+v: nobody waits for another HSM's answer", trace)
				}
			}
		}
		neverOut(t, logs)
		tokens[0].SetHook(nil)
		served(t, g, "a") // it was slow for two requests, which is no reason yet
		for range 10 {    // the same on the only HSM that there is to ask
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(50*time.Millisecond, cancel)
			_, _, err := g.Encrypt(ctx, hsm.KeyRef{Label: "only b", Version: 1}, aad, text)
			cancel()
			wantError(t, err, hsm.ErrTimeout, context.Canceled)
		}
		neverOut(t, logs)
	})
}

// TestLateRequests: requests that reach the HSM with next to no time left, their
// body having dribbled in, do not take a healthy HSM out of service.
func TestLateRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, inOrder, logTo(&logs))
		for _, token := range tokens {
			token.SetHook(onRequests(slow(5 * time.Millisecond)))
		}
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, _, err := g.Encrypt(ctx, ref, aad, text)
			cancel()
			wantError(t, err, hsm.ErrTimeout)
		}
		neverOut(t, logs)
		served(t, g, "a")
	})
}

// TestWrongLengths: an answer that KMS could not use is a fault of the HSM (requirement E2).
func TestWrongLengths(t *testing.T) {
	for name, spoil := range map[string]func(*hsm.Sealed){
		"ciphertext too long":  func(s *hsm.Sealed) { s.Ciphertext = append(slices.Clone(s.Ciphertext), 0) },
		"ciphertext too short": func(s *hsm.Sealed) { s.Ciphertext = s.Ciphertext[1:] },
		"no tag":               func(s *hsm.Sealed) { s.Tag = nil },
		"tag of 12":            func(s *hsm.Sealed) { s.Tag = s.Tag[:12] },
		"tag of 17":            func(s *hsm.Sealed) { s.Tag = append(slices.Clone(s.Tag), 0) },
		"no IV":                func(s *hsm.Sealed) { s.IV = nil },
		"IV of 13":             func(s *hsm.Sealed) { s.IV = append(slices.Clone(s.IV), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, inOrder, func(c *group.Config) {
					c.Members[0].Token = &liar{Token: tokens[0], seal: spoil}
				})
				sealed, trace, err := request(t, g)
				if err != nil || trace.HSM != "b" || trace.Attempts != 2 {
					t.Fatalf("got %+v, %v", trace, err)
				}
				wantError(t, trace.Faults[0], hsm.ErrUnavailable)
				opens(t, tokens[0], ref, sealed)
			})
		})
	}
}

// TestWrongPlaintextLength is the same for Decrypt; the lengths alone, since only the tag could
// tell more.
func TestWrongPlaintextLength(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":  func([]byte) []byte { return nil },
		"too long": func(p []byte) []byte { return append(p, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, inOrder, func(c *group.Config) {
					c.Members[0].Token = &liar{Token: tokens[0], open: spoil}
				})
				sealed, _, err := request(t, g)
				if err != nil {
					t.Fatal(err)
				}
				plaintext, trace, err := g.Decrypt(inBudget(t), ref, aad, sealed)
				if err != nil || string(plaintext) != string(text) || trace.HSM != "b" {
					t.Fatalf("got %q, %+v, %v", plaintext, trace, err)
				}
				wantError(t, trace.Faults[0], hsm.ErrUnavailable)
			})
		})
	}
}

// liar spoils what an HSM answers to requests, not to probes.
type liar struct {
	hsm.Token
	seal func(*hsm.Sealed)
	open func([]byte) []byte
}

func (l *liar) Encrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	sealed, err := l.Token.Encrypt(ctx, key, aad, plaintext)
	if err == nil && l.seal != nil && key.Label != testKey {
		l.seal(&sealed)
	}
	return sealed, err
}

func (l *liar) Decrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	plaintext, err := l.Token.Decrypt(ctx, key, aad, sealed)
	if err == nil && l.open != nil && key.Label != testKey {
		plaintext = l.open(plaintext)
	}
	return plaintext, err
}

// TestEmpty: an empty plaintext works (requirement D3).
func TestEmpty(t *testing.T) {
	synctest.Test(t, empty)
}

func empty(t *testing.T) {
	g := start(t, newTokens(2))
	sealed, _, err := g.Encrypt(inBudget(t), ref, nil, nil)
	if err != nil || len(sealed.Ciphertext) != 0 {
		t.Fatalf("got %+v, %v", sealed, err)
	}
	plaintext, _, err := g.Decrypt(inBudget(t), ref, nil, sealed)
	if err != nil || len(plaintext) != 0 {
		t.Fatalf("got %q, %v", plaintext, err)
	}
}
