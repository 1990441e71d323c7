package group_test

// Tests of hedging: a request that is slow goes to a second HSM as well, and the
// first good answer wins (design, "Failover inside the request").

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

const ms = time.Millisecond

// TestHedge: who wins, when, and what it costs. Nothing is known of the HSMs, so
// that a request is slow after 30 ms, half the attempt timeout.
func TestHedge(t *testing.T) {
	fails := func(after time.Duration, kind error) hsmtest.Hook {
		return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			err := slow(after)(ctx, op, key)
			if err != nil {
				return err
			}
			return failWith(kind)(ctx, op, key)
		}
	}
	for _, test := range []struct {
		name     string
		hooks    []hsmtest.Hook
		by       string
		err      error
		took     time.Duration
		attempts int
		hedges   int
		faults   int
	}{
		{"just in time", []hsmtest.Hook{slow(29 * ms), nil}, "a", nil, 29 * ms, 1, 0, 0},
		{"the second wins", []hsmtest.Hook{slow(31 * ms), nil}, "b", nil, 30 * ms, 2, 1, 0},
		{"the second wins, the first hangs", []hsmtest.Hook{hang, slow(20 * ms)}, "b", nil, 50 * ms, 2, 1, 0},
		{"the first wins", []hsmtest.Hook{slow(35 * ms), slow(20 * ms)}, "a", nil, 35 * ms, 2, 1, 0},
		{"the first wins, the second hangs", []hsmtest.Hook{slow(35 * ms), hang}, "a", nil, 35 * ms, 2, 1, 0},
		{"the second fails, the first answers", []hsmtest.Hook{slow(45 * ms), down}, "a", nil, 45 * ms, 2, 1, 1},
		{"the second is busy, the first answers", []hsmtest.Hook{slow(45 * ms), failWith(hsm.ErrBusy)}, "a", nil, 45 * ms, 2, 1, 1},
		{"the second lacks the key, the first answers", []hsmtest.Hook{slow(45 * ms), failWith(hsm.ErrKeyNotFound)}, "a", nil, 45 * ms, 2, 1, 0},
		{"the second fails, the third answers", []hsmtest.Hook{hang, down, nil}, "c", nil, 30 * ms, 3, 2, 1},
		{"the second fails, and again, the first is late", []hsmtest.Hook{slow(145 * ms), fails(5*ms, hsm.ErrUnavailable)}, "a", nil, 145 * ms, 5, 4, 1},
		{"the first fails late, the second answers", []hsmtest.Hook{fails(40*ms, hsm.ErrUnavailable), slow(20 * ms)}, "b", nil, 50 * ms, 2, 1, 1},
		{"the first fails late, the third answers", []hsmtest.Hook{fails(40*ms, hsm.ErrUnavailable), slow(50 * ms), nil}, "c", nil, 40 * ms, 3, 1, 1},
		{"a fault of the request is an answer", []hsmtest.Hook{hang, failWith(hsm.ErrInvalidCiphertext)}, "b", hsm.ErrInvalidCiphertext, 30 * ms, 2, 1, 0},
		{"a fault of the request from the first", []hsmtest.Hook{fails(35*ms, hsm.ErrKeyUsage), hang}, "a", hsm.ErrKeyUsage, 35 * ms, 2, 1, 0},
		{"two hang, the third answers", []hsmtest.Hook{hang, hang, nil}, "c", nil, 90 * ms, 3, 2, 0},
		{"three hang, the fourth answers", []hsmtest.Hook{hang, hang, hang, nil}, "d", nil, 150 * ms, 4, 3, 0},
		{"both overdue, the first answers", []hsmtest.Hook{slow(150 * ms), slow(150 * ms)}, "a", nil, 150 * ms, 2, 1, 0},
		{"both overdue, the second answers", []hsmtest.Hook{hang, slow(150 * ms)}, "b", nil, 180 * ms, 2, 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(len(test.hooks))
				g := start(t, tokens, inOrder)
				var underWay atomic.Int32
				for i, token := range tokens {
					if hook := test.hooks[i]; hook != nil {
						token.SetHook(
							onRequests(
								func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
									underWay.Add(1)
									defer underWay.Add(-1)
									return hook(ctx, op, key)
								},
							),
						)
					}
				}
				began := time.Now()
				_, trace, err := request(t, g)
				if took := time.Since(began); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if !errors.Is(err, test.err) || trace.HSM != test.by {
					t.Errorf("served by %q: %v", trace.HSM, err)
				}
				if trace.Attempts != test.attempts || trace.Hedges != test.hedges ||
					len(trace.Faults) != test.faults {
					t.Errorf("got %+v", trace)
				}
				if n := underWay.Load(); n != 0 {
					t.Errorf("%d calls are still under way", n)
				}
				status := g.Status()
				for _, m := range status.Members {
					if m.InFlight != 0 {
						t.Errorf("%s has %d in flight", m.HSM, m.InFlight)
					}
				}
				if (status.Hedges > 0) != (test.hedges > 0) {
					t.Errorf("%d hedges counted", status.Hedges)
				}
			})
		})
	}
}

// stubborn is an HSM that does not end its calls when it is told to, and looks
// at what it was given until the end. It keeps what it answered.
type stubborn struct {
	hsm.Token
	takes time.Duration

	mu      sync.Mutex
	answers [][]byte
}

func (s *stubborn) Encrypt(
	_ context.Context,
	key hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	if key.Label != testKey {
		time.Sleep(s.takes)
	}
	return s.Token.Encrypt(context.Background(), key, aad, plaintext)
}

func (s *stubborn) Decrypt(
	_ context.Context,
	key hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	if key.Label != testKey {
		time.Sleep(s.takes)
	}
	plaintext, err := s.Token.Decrypt(context.Background(), key, aad, sealed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if key.Label != testKey {
		s.answers = append(s.answers, plaintext)
	}
	return plaintext, err
}

// TestLoserIsCleared: two answers, one of which is nobody's: the plaintext in it
// is cleared, and nobody looks at the caller's buffers once the caller has its answer. The race
// detector looks on.
func TestLoserIsCleared(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b time.Duration
	}{
		{"at the same moment", 40 * ms, 10 * ms},
		{"the first is late", 45 * ms, 10 * ms},
		{"the second is late", 40 * ms, 15 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				a, b := &stubborn{
					Token: tokens[0],
					takes: test.a,
				}, &stubborn{
					Token: tokens[1],
					takes: test.b,
				}
				g := start(
					t,
					tokens,
					inOrder,
					func(c *group.Config) { c.Members[0].Token, c.Members[1].Token = a, b },
				)
				plaintext, shared := slices.Clone(text), slices.Clone(aad)
				sealed, _, err := g.Encrypt(inBudget(t), ref, shared, plaintext)
				if err != nil {
					t.Fatal(err)
				}
				clear(plaintext)
				clear(shared)
				shared = slices.Clone(aad)
				got, trace, err := g.Decrypt(inBudget(t), ref, shared, sealed)
				if err != nil || !bytes.Equal(got, text) || trace.Hedges != 1 {
					t.Fatalf("got %q, %v, %+v", got, err, trace)
				}
				clear(shared)
				clear(sealed.Ciphertext)
				won, cleared := 0, 0
				for _, answer := range slices.Concat(a.answers, b.answers) {
					switch {
					case &answer[0] == &got[0]:
						won++
					case bytes.Equal(answer, make([]byte, len(text))):
						cleared++
					}
				}
				if won != 1 || cleared != 1 {
					t.Errorf("%d answers won and %d were cleared", won, cleared)
				}
			})
		})
	}
}

// TestHedgeDelay: how long a request waits depends on what its HSM has taken lately: twice the
// slowest hundredth, 10 ms at least, the attempt timeout at most.
func TestHedgeDelay(t *testing.T) {
	for _, test := range []struct {
		name        string
		usual       time.Duration
		options     []option
		least, most time.Duration
	}{
		{"quick", ms, nil, 10 * ms, 10 * ms},
		{"not so quick", 8 * ms, nil, 16 * ms, 20 * ms},
		{"slow", 20 * ms, nil, 40 * ms, 50 * ms},
		{"slower", 40 * ms, nil, 60 * ms, 60 * ms},
		{"a floor of its own", ms, []option{func(c *group.Config) { c.HedgeAfter = 25 * ms }}, 25 * ms, 25 * ms},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, append(test.options, inOrder)...)
				tokens[0].SetHook(onRequests(slow(test.usual)))
				err := g.Drain(t.Context(), "b", false) // nobody helps while a is got to know
				if err != nil {
					t.Fatal(err)
				}
				for range 50 {
					served(t, g, "a")
				}
				time.Sleep(300 * ms) // the estimate is made in the background
				err = g.Resume("b")
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(ms)
				tokens[0].SetHook(onRequests(hang))
				began := time.Now()
				served(t, g, "b")
				if took := time.Since(began); took < test.least || took > test.most {
					t.Errorf("hedged after %v", took)
				}
			})
		})
	}
}

// TestHedgeBudget: what was saved up, then 5 of 100.
func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		tokens[0].SetHook(onRequests(slow(55 * ms)))
		for _, want := range []int64{32, 5, 5} { // at once, before anything is known of a
			var hedged, slowest atomic.Int64
			var running sync.WaitGroup
			for range 100 {
				running.Go(func() {
					began := time.Now()
					_, trace, err := request(t, g)
					if err != nil {
						t.Error(err)
					}
					hedged.Add(int64(trace.Hedges))
					slowest.Store(max(slowest.Load(), int64(time.Since(began))))
				})
			}
			running.Wait()
			if hedged.Load() != want || slowest.Load() != int64(55*ms) {
				t.Errorf(
					"%d of 100 requests were hedged, want %d; the slowest took %v",
					hedged.Load(),
					want,
					time.Duration(slowest.Load()),
				)
			}
		}
		status := g.Status()
		if status.Hedges != 42 || status.HedgesDenied != 258 || status.Members[0].Slow != 42 {
			t.Errorf(
				"got %d hedges, %d denied, %d slow",
				status.Hedges,
				status.HedgesDenied,
				status.Members[0].Slow,
			)
		}
	})
}

// TestNoHedging: without a budget, an HSM is waited for until it is overdue; then the request moves
// on.
func TestNoHedging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder, func(c *group.Config) { c.HedgePercent = 0 })
		tokens[0].SetHook(onRequests(slow(59 * ms)))
		served(t, g, "a")
		tokens[0].SetHook(onRequests(hang))
		began := time.Now()
		served(t, g, "b")
		if took := time.Since(began); took != 60*ms {
			t.Errorf("took %v", took)
		}
		if status := g.Status(); status.Hedges != 1 || status.HedgesDenied != 2 ||
			status.Members[0].Slow != 1 {
			t.Errorf("got %+v", status)
		}
	})
}

// TestNobodyToHedgeWith: no hedge goes to an HSM that is out, drained, suspected
// or too slow to answer in the time left, and none of the budget is spent on it.
func TestNobodyToHedgeWith(t *testing.T) {
	drain := func(t *testing.T, g *group.Group, _ []*hsmtest.Token) {
		err := g.Drain(t.Context(), "b", false)
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name    string
		prepare func(*testing.T, *group.Group, []*hsmtest.Token)
	}{
		{"out", func(_ *testing.T, _ *group.Group, tokens []*hsmtest.Token) {
			tokens[1].SetHook(all(down))
			time.Sleep(6 * time.Second)
		}},
		{"drained", drain},
		{"too slow", func(t *testing.T, g *group.Group, tokens []*hsmtest.Token) {
			tokens[0].SetHook(onRequests(down))
			tokens[1].SetHook(onRequests(slow(130 * ms)))
			for range 50 {
				served(t, g, "b")
			}
			time.Sleep(300 * ms)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, inOrder)
				test.prepare(t, g, tokens)
				tokens[0].SetHook(nil)
				time.Sleep(10 * time.Second) // a is well, and has its full share
				tokens[0].SetHook(onRequests(slow(110 * ms)))
				before := g.Status()
				ctx, cancel := context.WithTimeout(t.Context(), 120*ms)
				defer cancel()
				_, trace, err := g.Encrypt(ctx, ref, aad, text)
				if err != nil || trace.HSM != "a" || trace.Attempts != 1 {
					t.Fatalf("got %v, %+v", err, trace)
				}
				after := g.Status()
				if after.Hedges != before.Hedges || after.HedgesDenied != before.HedgesDenied {
					t.Errorf(
						"%d hedges and %d denied",
						after.Hedges-before.Hedges,
						after.HedgesDenied-before.HedgesDenied,
					)
				}
			})
		})
	}
}

// TestHedgeHungUp: a caller that hangs up while two HSMs work for it leaves nothing behind.
func TestHedgeHungUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		for _, token := range tokens {
			token.SetHook(onRequests(hang))
		}
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(40*ms, cancel)
			_, trace, err := g.Encrypt(ctx, ref, aad, text)
			wantError(t, err, hsm.ErrTimeout, context.Canceled)
			if trace.Attempts != 2 || trace.Hedges != 1 || len(trace.Faults) != 0 {
				t.Errorf("got %+v", trace)
			}
		}
		for _, m := range g.Status().Members {
			if m.Service != status.InService || m.Faults != 0 || m.Slow != 0 || m.InFlight != 0 {
				t.Errorf("got %+v", m)
			}
		}
	})
}
