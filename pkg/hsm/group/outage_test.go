package group_test

// Tests of how an HSM goes out of service and comes back: suspicion, the probe,
// the growing share, and the token that knows of itself.

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// supervised is an HSM that can tell when it came or went.
type supervised struct {
	hsm.Token
	changed  chan struct{}
	suspects atomic.Int32
	renewals atomic.Int32

	incarnation atomic.Uint64
	info        atomic.Pointer[hsm.Info]      // of the token, where it was replaced
	behind      atomic.Pointer[hsmtest.Token] // the token, where it was replaced
}

func (w *supervised) now() hsm.Token {
	if token := w.behind.Load(); token != nil {
		return token
	}
	return w.Token
}

func (w *supervised) Encrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad, plaintext []byte,
) (hsm.Sealed, error) {
	return w.now().Encrypt(ctx, key, aad, plaintext)
}

func (w *supervised) Decrypt(
	ctx context.Context,
	key hsm.KeyRef,
	aad []byte,
	sealed hsm.Sealed,
) ([]byte, error) {
	return w.now().Decrypt(ctx, key, aad, sealed)
}

func (w *supervised) Keys(ctx context.Context) ([]hsm.Object, error) { return w.now().Keys(ctx) }

func (w *supervised) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	return w.now().Find(ctx, label)
}

func (w *supervised) Info() hsm.Info {
	if info := w.info.Load(); info != nil {
		return *info
	}
	return w.Token.Info()
}

func (w *supervised) Changed(context.Context) <-chan struct{} { return w.changed }
func (w *supervised) Suspect()                                { w.suspects.Add(1) }
func (w *supervised) Renew(string)                            { w.renewals.Add(1) }
func (w *supervised) Incarnation() uint64                     { return w.incarnation.Load() }

// supervise makes the first HSM of a group a supervised one.
func supervise(w *supervised) option {
	return func(c *group.Config) {
		w.Token, w.changed = c.Members[0].Token, make(chan struct{}, 1)
		c.Members[0].Token = w
	}
}

func service(g *group.Group, i int) status.Service { return g.Status().Members[i].Service }

// TestSuspicion: one request without an answer, and later ones skip the HSM until a probe
// succeeds.
func TestSuspicion(t *testing.T) {
	for _, test := range []struct {
		name   string
		hook   hsmtest.Hook
		after  time.Duration // how long the suspicion lasts
		health status.Status
	}{
		{"hung for this request only", onRequests(hang), 0, status.Active},
		{"probes take 150 ms", all(slow(150 * ms)), 300 * ms, status.Degraded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				w := &supervised{}
				var logs *observer.ObservedLogs
				g := start(
					t,
					tokens,
					inOrder,
					supervise(w),
					logTo(&logs),
					func(c *group.Config) { c.HedgePercent = 0 },
				)
				tokens[0].SetHook(test.hook)
				began := time.Now()
				served(t, g, "b")
				if took := time.Since(began); took != 60*ms {
					t.Errorf("the failover took %v", took)
				}
				if w.suspects.Load() != 1 {
					t.Errorf("the token was told %d times", w.suspects.Load())
				}
				state := g.Status().Members[0]
				if state.Slow != 1 || state.LastFault == "" || state.LastFaultAt.IsZero() {
					t.Errorf("got %+v", state)
				}
				if test.after > 0 {
					time.Sleep(test.after - ms)
					if service(g, 0) != status.Suspected {
						t.Errorf("after %v: %s", time.Since(began), service(g, 0))
					}
					served(t, g, "b")
				}
				time.Sleep(ms)
				synctest.Wait()
				tokens[0].SetHook(nil)
				if state := g.Status().Members[0]; state.Service != status.InService ||
					state.Health.Status != test.health ||
					state.Trips != 0 {
					t.Errorf("got %+v", state)
				}
				served(t, g, "a")
				for _, line := range []string{"HSM suspected", "no longer suspected"} {
					if n := logs.FilterMessageSnippet(line).Len(); n != 1 {
						t.Errorf("%d lines %q", n, line)
					}
				}
			})
		})
	}
}

// TestSuspicionConfirmed: the probe hangs as well, so that the HSM goes out; and
// when it is well again, it comes back within the interval of the probe.
func TestSuspicionConfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		tokens[0].SetHook(hang)
		served(t, g, "b") // hedged at 30 ms, and nobody knows more
		if service(g, 0) != status.InService {
			t.Errorf("after a hedge: %s", service(g, 0))
		}
		tokens[1].SetHook(onRequests(slow(40 * ms)))
		served(t, g, "b")
		if service(g, 0) != status.Suspected {
			t.Errorf("after 60 ms: %s", service(g, 0))
		}
		tokens[1].SetHook(nil)
		time.Sleep(1980 * ms)
		if service(g, 0) != status.Suspected || g.Health()[0].Status != status.Active {
			t.Errorf("before the probe ends: %s", service(g, 0))
		}
		time.Sleep(20 * ms)
		if service(g, 0) != status.Out || g.Health()[0].Status != status.Unavailable {
			t.Errorf("after the probe: %s", service(g, 0))
		}
		tokens[0].SetHook(nil)
		time.Sleep(2201 * ms)
		if service(g, 0) != status.Returning || g.Health()[0].Status != status.Active {
			t.Errorf("got %s", service(g, 0))
		}
	})
}

// TestChanged: a token that says that it came or went is probed at that moment.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		w := &supervised{}
		g := start(t, tokens, supervise(w))
		for range 3 {
			tokens[0].SetHook(all(down))
			w.changed <- struct{}{}
			synctest.Wait()
			if statuses(g) != "a=UNAVAILABLE b=ACTIVE " || service(g, 0) != status.Out {
				t.Errorf("gone: %s, %s", statuses(g), service(g, 0))
			}
			tokens[0].SetHook(nil)
			w.changed <- struct{}{}
			synctest.Wait()
			if statuses(g) != "a=ACTIVE b=ACTIVE " || service(g, 0) != status.Returning {
				t.Errorf("back: %s, %s", statuses(g), service(g, 0))
			}
			time.Sleep(2 * time.Minute) // steady
			if service(g, 0) != status.InService {
				t.Errorf("later: %s", service(g, 0))
			}
		}
	})
}

// TestProbeInterval: 5 s while all is well, 200 ms while the HSM is out.
func TestProbeInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		start(t, tokens)
		probes := func(during time.Duration) int {
			before := tokens[0].Calls(hsmtest.OpEncrypt)
			time.Sleep(during)
			synctest.Wait()
			return tokens[0].Calls(hsmtest.OpEncrypt) - before
		}
		time.Sleep(ms)
		if n := probes(50 * time.Second); n != 10 {
			t.Errorf("%d probes in 50 s", n)
		}
		tokens[0].SetHook(all(down))
		time.Sleep(5 * time.Second)
		if n := probes(10 * time.Second); n != 50 {
			t.Errorf("%d probes in 10 s while it is out", n)
		}
		tokens[0].SetHook(nil)
		time.Sleep(time.Second)
		if n := probes(50 * time.Second); n != 10 {
			t.Errorf("%d probes in 50 s, afterwards", n)
		}
	})
}

// TestLateProbes: a probe that is slower than a request lasts is believed the second time.
func TestLateProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		late := make(chan time.Duration, 1)
		tokens[0].SetHook(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if op != hsmtest.OpEncrypt {
				return nil
			}
			select {
			case d := <-late:
				return slow(d)(ctx, op, key)
			default:
				return nil
			}
		})
		late <- 250 * ms // the machine stood still, once
		time.Sleep(5200 * ms)
		if statuses(g) != "a=ACTIVE b=ACTIVE " {
			t.Errorf("before: %s", statuses(g))
		}
		time.Sleep(60 * ms)
		if statuses(g) != "a=ACTIVE b=ACTIVE " || service(g, 0) != status.InService {
			t.Errorf("once: %s", statuses(g))
		}
		tokens[0].SetHook(on(hsmtest.OpEncrypt, slow(250*ms)))
		time.Sleep(5400 * ms)
		if statuses(g) != "a=DEGRADED b=ACTIVE " && statuses(g) != "a=UNAVAILABLE b=ACTIVE " {
			t.Errorf("the first time: %s", statuses(g))
		}
		time.Sleep(time.Second)
		if statuses(g) != "a=UNAVAILABLE b=ACTIVE " || service(g, 0) != status.Out {
			t.Errorf("twice: %s", statuses(g))
		}
	})
}

// TestRamp: an HSM that comes back gets a growing share of the requests, whether it is an equal or
// the first.
func TestRamp(t *testing.T) {
	for _, test := range []struct {
		name string
		full float64 // its part of the requests in the end
		opts []option
	}{{"equal", 0.5, nil}, {"first", 1, []option{inOrder}}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens, test.opts...)
				tokens[0].SetHook(all(down))
				time.Sleep(6 * time.Second)
				tokens[0].SetHook(nil)
				for service(g, 0) == status.Out {
					time.Sleep(ms)
				}
				for i, want := range []float64{1. / 12, 0.25, 5. / 12, 7. / 12, 0.75, 11. / 12, 1, 1} {
					got := float64(stream(t, g, 1000, 500*time.Microsecond).by["a"]) / 1000
					if got < test.full*want-0.06 || got > test.full*want+0.06 {
						t.Errorf(
							"from %d ms on: %.2f of the requests, want %.2f",
							i*500,
							got,
							test.full*want,
						)
					}
				}
			})
		})
	}
}

// TestFlapping: probes pass and requests fail. The HSM stays out ever longer, so that few requests
// pay for it.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[0].SetHook(onRequests(down))
		var asked []uint64
		for range 5 {
			before := g.Status().Members[0]
			stream(t, g, 600, 20*ms).perfect(t, 5*ms)
			asked = append(asked, g.Status().Members[0].Requests-before.Requests)
		}
		state := g.Status().Members[0]
		if state.Trips < 5 || state.Trips > 9 || asked[4] > 6 {
			t.Errorf("%d trips, asked %v times in a dozen seconds each", state.Trips, asked)
		}
		tokens[0].SetHook(nil)
		time.Sleep(35 * time.Second)
		if service(g, 0) != status.InService {
			t.Errorf("in the end: %s", service(g, 0))
		}
	})
}

// TestFirstThere: an HSM that was away at the start has its full share as soon as it is there.
func TestFirstThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		tokens[0].SetHook(down)
		g := start(t, tokens, inOrder)
		served(t, g, "b")
		if m := g.Status().Members[0]; m.Service != status.Out || m.Trips != 0 || m.Reason == "" {
			t.Errorf("got %+v", m)
		}
		if m := g.Status().Members[1]; m.Service != status.InService || m.Since.IsZero() {
			t.Errorf("got %+v", m)
		}
		tokens[0].SetHook(nil)
		time.Sleep(201 * ms)
		served(t, g, "a")
	})
}

// TestProbeNow: an operator asks for a probe.
func TestProbeNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		tokens[1].SetHook(all(down))
		g.Probe("a")
		g.Probe("nobody")
		synctest.Wait()
		if statuses(g) != "a=ACTIVE b=ACTIVE " {
			t.Errorf("got %s", statuses(g))
		}
		g.Probe("b")
		synctest.Wait()
		if statuses(g) != "a=ACTIVE b=UNAVAILABLE " {
			t.Errorf("got %s", statuses(g))
		}
	})
}
