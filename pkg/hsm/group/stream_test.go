package group_test

// A steady stream of requests, in fake time, while HSMs are unwell in one way or
// another: no request fails that one HSM could have served, none is slow, and the load does
// not double (requirements R1, R2, U13).

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// tally is what became of a stream of requests.
type tally struct {
	mu      sync.Mutex
	made    int
	failed  []error
	wrong   int
	slowest time.Duration
	slow    int // slower than an HSM's attempt timeout
	by      map[string]int
	calls   int
}

// stream makes n requests, Encrypt and Decrypt in turn, one each every.
func stream(t *testing.T, g *group.Group, n int, every time.Duration) *tally {
	t.Helper()
	total := &tally{made: n, by: map[string]int{}}
	sealed, _, err := request(t, g)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() { total.one(t.Context(), g, sealed, i%2 == 0) })
		time.Sleep(every)
	}
	running.Wait()
	return total
}

func (s *tally) one(ctx context.Context, g *group.Group, sealed hsm.Sealed, encrypt bool) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	began := time.Now()
	var trace group.Trace
	var err error
	right := true
	if encrypt {
		_, trace, err = g.Encrypt(ctx, ref, aad, text)
	} else {
		var plaintext []byte
		plaintext, trace, err = g.Decrypt(ctx, ref, aad, sealed)
		right = err != nil || bytes.Equal(plaintext, text)
	}
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls += trace.Attempts
	s.by[trace.HSM]++
	s.slowest = max(s.slowest, took)
	if took > 61*time.Millisecond {
		s.slow++
	}
	if err != nil {
		s.failed = append(s.failed, err)
	}
	if !right {
		s.wrong++
	}
}

// perfect asserts that every request was served, rightly, and within the time given.
func (s *tally) perfect(t *testing.T, within time.Duration) {
	t.Helper()
	if len(s.failed) > 0 {
		t.Errorf("%d of %d requests failed; the first: %v", len(s.failed), s.made, s.failed[0])
	}
	if s.wrong > 0 {
		t.Errorf("%d wrong answers", s.wrong)
	}
	if s.slowest > within {
		t.Errorf("the slowest request took %v, %d took longer than 61 ms", s.slowest, s.slow)
	}
}

// random is a source of chance that hooks share; its seed makes a test repeatable as far as
// the order of goroutines is.
type random struct {
	mu   sync.Mutex
	rand *rand.Rand
}

func newRandom(seed uint64) *random { return &random{rand: rand.New(rand.NewPCG(seed, 0))} }

func (r *random) float() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rand.Float64()
}

// between waits for a random time.
func (r *random) between(least, most time.Duration) hsmtest.Hook {
	return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
		return slow(least+time.Duration(r.float()*float64(most-least)))(ctx, op, key)
	}
}

// sometimes is a hook for a part of the calls.
func (r *random) sometimes(part float64, h hsmtest.Hook) hsmtest.Hook {
	return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
		if r.float() >= part {
			return nil
		}
		return h(ctx, op, key)
	}
}

// quick is what an HSM that is well takes.
var quick = slow(time.Millisecond)

// TestOneUnwell: one HSM of two, or of more, is unwell for as long as the stream lasts, after a
// second in which it was well.
func TestOneUnwell(t *testing.T) {
	chance := newRandom(1)
	for _, test := range []struct {
		name   string
		unwell hsmtest.Hook
		within time.Duration // the slowest request
		asked  int           // the most calls that the unwell HSM gets, requests only; 0 is any number
	}{
		{"down", all(down), 5 * time.Millisecond, 10},
		{"down for requests only", onRequests(down), 5 * time.Millisecond, 60},
		{"hung", hang, 65 * time.Millisecond, 250},
		{"hung for requests only", onRequests(hang), 65 * time.Millisecond, 400},
		{"hung for Decrypt only", on(hsmtest.OpDecrypt, hang), 65 * time.Millisecond, 400},
		{"busy", all(failWith(hsm.ErrBusy)), 5 * time.Millisecond, 0},
		{"+50 ms", all(slow(50 * time.Millisecond)), 65 * time.Millisecond, 0},
		{"+250 ms", all(slow(250 * time.Millisecond)), 65 * time.Millisecond, 400},
		{"jitter 0 to 300 ms", all(chance.between(0, 300*time.Millisecond)), 130 * time.Millisecond, 0},
		{"5 % faults", all(chance.sometimes(0.05, down)), 5 * time.Millisecond, 0},
		{"5 % hang", all(chance.sometimes(0.05, hang)), 65 * time.Millisecond, 0},
		{"its key is gone", onRequests(failWith(hsm.ErrKeyNotFound)), 5 * time.Millisecond, 0},
	} {
		for _, n := range []int{2, 3, 10} {
			for _, active := range []bool{true, false} {
				if n > 2 && !active {
					continue // a standby is the same with any number
				}
				t.Run(test.name+"/"+nameOf(n, active), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						tokens := newTokens(n)
						var options []option
						if !active {
							options = append(options, inOrder)
						}
						g := start(t, tokens, options...)
						for _, token := range tokens {
							token.SetHook(onRequests(quick))
						}
						stream(t, g, 300, time.Millisecond).perfect(t, time.Millisecond)
						before := g.Status().Members[0].Requests
						tokens[0].SetHook(test.unwell)
						total := stream(t, g, 1000, time.Millisecond)
						total.perfect(t, test.within)
						asked := int(g.Status().Members[0].Requests - before)
						if test.asked > 0 && asked > test.asked {
							t.Errorf("the unwell HSM was asked %d times", asked)
						}
						t.Logf(
							"slowest %v, %d over 61 ms, %d calls, the unwell HSM got %d and served %d",
							total.slowest,
							total.slow,
							total.calls,
							asked,
							total.by["a"],
						)
					})
				})
			}
		}
	}
}

func nameOf(n int, active bool) string {
	kind := "standby"
	if active {
		kind = "active"
	}
	return map[int]string{2: "two", 3: "three", 10: "ten"}[n] + ", " + kind
}

// TestHungForEver: ten seconds of requests beside an HSM that never answers.
func TestHungForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(onRequests(quick))
		}
		stream(t, g, 1000, time.Millisecond).perfect(t, time.Millisecond)
		before := g.Status().Members[0].Requests
		tokens[0].SetHook(hang)
		total := stream(t, g, 10_000, time.Millisecond)
		total.perfect(t, 61*time.Millisecond)
		if asked := g.Status().Members[0].Requests - before; asked > 100 {
			t.Errorf("the hung HSM was asked %d times", asked)
		}
		if state := g.Status().Members[0]; state.Service != status.Out || state.InFlight != 0 ||
			state.Health.Status != status.Unavailable {
			t.Errorf("got %+v", state)
		}
	})
}

// TestFoundUnderLoad: hedges answer every request that meets a hung HSM, and do not hide
// it: it is skipped after a few of them, long before the first is overdue.
func TestFoundUnderLoad(t *testing.T) {
	for _, options := range [][]option{nil, {inOrder}} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(2)
			g := start(t, tokens, options...)
			for _, token := range tokens {
				token.SetHook(onRequests(quick))
			}
			stream(t, g, 1000, time.Millisecond).perfect(t, time.Millisecond)
			before := g.Status().Members[0].Requests
			tokens[0].SetHook(hang)
			total := stream(t, g, 100, time.Millisecond)
			total.perfect(t, 20*time.Millisecond)
			state := g.Status().Members[0]
			if asked := state.Requests - before; state.Service != status.Suspected || asked > 20 {
				t.Errorf(
					"after 100 ms the hung HSM is %s and was asked %d times",
					state.Service,
					asked,
				)
			}
		})
	}
}

// TestSlowAsAWhole: when all HSMs are slow at once, hedging does not double their load: 5 requests
// of a hundred are hedged, and the 32 that were saved up.
func TestSlowAsAWhole(t *testing.T) {
	for _, every := range []time.Duration{20 * time.Millisecond, 5 * time.Millisecond, time.Millisecond} {
		t.Run(every.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				chance := newRandom(2)
				tokens := newTokens(2)
				g := start(t, tokens)
				for _, token := range tokens {
					token.SetHook(onRequests(quick))
				}
				stream(t, g, 1000, time.Millisecond).perfect(t, time.Millisecond)
				for _, token := range tokens {
					token.SetHook(all(chance.between(80*time.Millisecond, 150*time.Millisecond)))
				}
				total := stream(t, g, 3000, every)
				total.perfect(t, 151*time.Millisecond)
				if most := total.made + total.made/20 + 32; total.calls > most {
					t.Errorf(
						"%d calls for %d requests, at most %d wanted",
						total.calls,
						total.made,
						most,
					)
				}
				for _, m := range g.Status().Members {
					if m.Trips > 0 || m.Service == status.Out {
						t.Errorf(
							"%s is %s, with %d trips: it serves as well as the other",
							m.HSM,
							m.Service,
							m.Trips,
						)
					}
				}
				t.Logf(
					"%d calls for %d requests, slowest %v",
					total.calls,
					total.made,
					total.slowest,
				)
			})
		})
	}
}

// TestOneDownOtherFails: one HSM is away, and the other fails one call of a hundred: that call is
// made again on the same HSM.
func TestOneDownOtherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(all(down))
		tokens[1].SetHook(all(newRandom(3).sometimes(0.01, down)))
		for i := range 100_000 {
			began := time.Now()
			_, trace, err := request(t, g)
			if took := time.Since(began); err != nil || took > 100*time.Millisecond {
				t.Fatalf("request %d: %v after %v: %+v", i, err, took, trace)
			}
			if i%20 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // the same with one that hangs, and whose probes hang
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(all(hang))
		tokens[1].SetHook(all(newRandom(4).sometimes(0.01, down)))
		stream(t, g, 5000, time.Millisecond).perfect(t, 150*time.Millisecond)
	})
}

// TestKeptOut: an HSM that went out too often, and whose probes pass, is not in
// service; when the other one hangs, it serves anyway.
func TestKeptOut(t *testing.T) {
	for name, unwell := range map[string]hsmtest.Hook{"hung": hang, "down": all(down), "hung for requests only": onRequests(hang)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens)
				for range 6 { // out, and back as soon as it may
					tokens[1].SetHook(all(down))
					time.Sleep(6 * time.Second)
					tokens[1].SetHook(nil)
					for begin := time.Now(); g.Status().Members[1].Service == status.Out && time.Since(begin) < 10*time.Second; {
						time.Sleep(50 * time.Millisecond)
					}
				}
				if got := g.Status().Members[1]; got.Service != status.Out ||
					got.Health.Status != status.Active {
					t.Fatalf("got %+v", got)
				}
				tokens[0].SetHook(unwell)
				total := stream(t, g, 4000, time.Millisecond)
				total.perfect(t, 65*time.Millisecond)
				t.Logf("%d calls, slowest %v", total.calls, total.slowest)
			})
		})
	}
}

// TestBothCrash: both worker processes die at once and are back after 30 ms.
func TestBothCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for crash := range 5 {
			time.AfterFunc(300*time.Millisecond, func() {
				for _, token := range tokens {
					token.SetHook(all(down))
				}
			})
			time.AfterFunc(330*time.Millisecond, func() {
				for _, token := range tokens {
					token.SetHook(nil)
				}
			})
			total := stream(t, g, 1000, time.Millisecond)
			total.perfect(t, 90*time.Millisecond)
			if t.Failed() {
				t.Fatalf("crash %d", crash)
			}
		}
	})
}

// TestLongOutageFailsFast: with every HSM out for longer than a moment, nobody waits for nothing.
func TestLongOutageFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(all(down))
		}
		time.Sleep(7 * time.Second)
		for range 100 {
			began := time.Now()
			_, trace, err := request(t, g)
			wantError(t, err, hsm.ErrUnavailable)
			if time.Since(began) != 0 || trace.Attempts != 2 {
				t.Fatalf("got %+v after %v", trace, time.Since(began))
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}
