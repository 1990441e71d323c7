package group_test

// Tests of who is asked first: state, priority, the sharing of load (requirement R2; design,
// "Failover inside the request").

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// all lets a hook see requests and probes, not listings.
func all(h hsmtest.Hook) hsmtest.Hook {
	return func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
		if op != hsmtest.OpEncrypt && op != hsmtest.OpDecrypt {
			return nil
		}
		return h(ctx, op, key)
	}
}

// TestThreeFaults: the third fault in a row takes an HSM out; two do not, and a
// success in between counts from the start again.
func TestThreeFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, inOrder, logTo(&logs))
		for range 3 {
			tokens[0].SetHook(all(down))
			served(t, g, "b")
			served(t, g, "b")
			tokens[0].SetHook(nil)
			served(t, g, "a")
		}
		tokens[0].SetHook(all(down))
		for range 3 {
			_, trace, err := request(t, g)
			if err != nil || trace.Attempts != 2 {
				t.Fatalf("got %+v, %v", trace, err)
			}
		}
		_, trace, err := request(t, g)
		if err != nil || trace.HSM != "b" || trace.Attempts != 1 {
			t.Fatalf("after three faults: %+v, %v", trace, err)
		}
		out := logs.FilterMessageSnippet("taken out").All()
		if len(out) != 1 || out[0].ContextMap()["hsm"] != "a" ||
			!strings.Contains(out[0].ContextMap()["error"].(string), "CKR_DEVICE_ERROR") {
			t.Errorf("the log says %v", out)
		}
	})
}

// TestBusyDoesNotCount: an HSM without a free session is skipped, not taken out.
func TestBusyDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		var logs *observer.ObservedLogs
		g := start(t, tokens, inOrder, logTo(&logs))
		tokens[0].SetHook(all(failWith(hsm.ErrBusy)))
		for range 20 {
			served(t, g, "b")
		}
		neverOut(t, logs)
		time.Sleep(10 * time.Second) // probes that find it busy do not take it out either
		tokens[0].SetHook(nil)
		served(t, g, "a")
	})
}

// TestBackByProbeOnly: requests that an HSM serves while it is out do not bring it back.
func TestBackByProbeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		tokens[0].SetHook(all(down))
		time.Sleep(6 * time.Second) // a probe takes it out
		served(t, g, "b")

		// Probes still fail, requests would succeed: it is asked last.
		tokens[0].SetHook(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if key.Label == testKey {
				return down(ctx, op, key)
			}
			return nil
		})
		for range 10 {
			_, trace, err := request(t, g)
			if err != nil || trace.HSM != "b" || trace.Attempts != 1 {
				t.Fatalf("got %+v, %v", trace, err)
			}
		}
		// And it is asked when nothing else is left.
		tokens[1].SetHook(all(down))
		for range 10 {
			_, trace, err := request(t, g)
			if err != nil || trace.HSM != "a" || trace.Attempts > 2 {
				t.Fatalf("got %+v, %v", trace, err)
			}
		}
		tokens[1].SetHook(nil)
		time.Sleep(time.Second)
		served(t, g, "b") // the probe of b passed

		tokens[0].SetHook(nil)
		time.Sleep(201 * time.Millisecond)
		if got := g.Status().Members[0].Service; got != status.Returning { // and now that of a
			t.Errorf("a is %s", got)
		}
		time.Sleep(3 * time.Second)
		served(t, g, "a")
	})
}

// TestAllOut: with every HSM out of service, one that hangs does not eat the time of one that has
// just come back.
func TestAllOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(
			t,
			tokens,
			inOrder,
			func(c *group.Config) { c.AttemptTimeout = 50 * time.Millisecond },
		)
		for _, token := range tokens {
			token.SetHook(all(down))
		}
		time.Sleep(6 * time.Second)
		if g.CanServe() {
			t.Fatal("an HSM is still in service")
		}
		tokens[0].SetHook(all(hang))
		tokens[1].SetHook(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if key.Label == testKey {
				return down(ctx, op, key)
			}
			return nil
		})
		_, trace, err := request(t, g)
		if err != nil || trace.HSM != "b" || trace.Attempts != 2 {
			t.Fatalf("got %+v, %v", trace, err)
		}
	})
}

// TestPriority: the standby is untouched while the first is fine, and used while it is out.
func TestPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(3)
		g := start(t, tokens, priorities(2, 1, 1))
		by := map[string]int{}
		seen := func(n int) map[string]int {
			clear(by)
			for range n {
				_, trace, err := request(t, g)
				if err != nil {
					t.Fatal(err)
				}
				by[trace.HSM]++
			}
			return by
		}
		if seen(100); by["a"] != 0 || by["b"] != 50 || by["c"] != 50 {
			t.Errorf("all well: %v", by)
		}
		tokens[1].SetHook(all(down))
		time.Sleep(6 * time.Second)
		if seen(100); by["c"] != 100 {
			t.Errorf("b is out: %v", by)
		}
		tokens[2].SetHook(all(down))
		time.Sleep(6 * time.Second)
		if seen(100); by["a"] != 100 {
			t.Errorf("b and c are out: %v", by)
		}
		tokens[1].SetHook(nil)
		time.Sleep(4 * time.Second) // back, and with its full share
		if seen(100); by["b"] != 100 {
			t.Errorf("c is out: %v", by)
		}
	})
}

// TestEvenLoad: equals share the load evenly, also when some of a group are not among them.
func TestEvenLoad(t *testing.T) {
	for _, test := range []struct {
		name     string
		priority []int
		out      int // the HSM that is out of service, or -1
		want     string
	}{
		{"two", []int{0, 0}, -1, "ab"},
		{"three", []int{0, 0, 0}, -1, "abc"},
		{"three, one out", []int{0, 0, 0}, 2, "ab"},
		{"three, the middle one out", []int{0, 0, 0}, 1, "ac"},
		{"two and a standby", []int{0, 0, 1}, -1, "ab"},
		{"ten, half of them standby", []int{1, 0, 0, 1, 1, 0, 0, 1, 1, 0}, -1, "bcfgj"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(len(test.priority))
				g := start(t, tokens, priorities(test.priority...))
				if test.out >= 0 {
					tokens[test.out].SetHook(all(down))
					time.Sleep(6 * time.Second)
				}
				by := map[string]int{}
				for range 300 {
					_, trace, err := request(t, g)
					if err != nil {
						t.Fatal(err)
					}
					by[trace.HSM]++
				}
				for _, name := range strings.Split(test.want, "") {
					if by[name] != 300/len(test.want) {
						t.Errorf("got %v", by)
					}
				}
			})
		})
	}
}

// TestEvenLoadConcurrent: with many requests at once the load is shared by how fast each HSM is.
func TestEvenLoadConcurrent(t *testing.T) {
	for _, test := range []struct {
		name        string
		a, b        time.Duration
		least, most float64 // what part of the requests a serves
	}{
		{"equally fast", time.Millisecond, time.Millisecond, 0.49, 0.51},
		{"three times as fast", time.Millisecond, 3 * time.Millisecond, 0.65, 0.80},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(2)
				g := start(t, tokens)
				tokens[0].SetHook(onRequests(slow(test.a)))
				tokens[1].SetHook(onRequests(slow(test.b)))
				before := tokens[0].Calls(hsmtest.OpEncrypt)
				const workers, each = 16, 100
				var running sync.WaitGroup
				for range workers {
					running.Go(func() {
						for range each {
							if _, trace, err := request(t, g); err != nil || trace.Attempts != 1 {
								t.Errorf("got %+v, %v", trace, err)
								return
							}
						}
					})
				}
				running.Wait()
				share := float64(tokens[0].Calls(hsmtest.OpEncrypt)-before) / (workers * each)
				if share < test.least || share > test.most {
					t.Errorf("a served %.2f of the requests", share)
				}
			})
		})
	}
}

// TestOneHSM: a group of one has no failover; its one HSM has the whole budget.
func TestOneHSM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(1)
		g := start(t, tokens)
		tokens[0].SetHook(onRequests(slow(budget - time.Millisecond)))
		served(t, g, "a")
		tokens[0].SetHook(onRequests(down))
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrUnavailable)
		if trace.Attempts != 6 { // it is all there is, and it was well a moment ago
			t.Fatalf("got %+v", trace)
		}
		tokens[0].SetHook(nil)
		served(t, g, "a")
	})
}

// TestFlutter: probes succeed, requests fail. Each return to service costs a few requests one
// attempt, and none its answer.
func TestFlutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		tokens[0].SetHook(onRequests(down))
		for range 1000 {
			served(t, g, "b")
			time.Sleep(time.Millisecond)
		}
	})
}

// TestAvoided: a call that should be made apart from an HSM goes to an equal of it
// if one is in service, and to no other.
func TestAvoided(t *testing.T) {
	for _, test := range []struct {
		name       string
		priorities []int
		down       []int // HSMs whose requests fail
		apart      []string
		want       []string // who may serve
	}{
		{"the other of a pair", []int{0, 0}, nil, []string{"a"}, []string{"b"}},
		{"the other way round", []int{0, 0}, nil, []string{"b"}, []string{"a"}},
		{"one of the others", []int{0, 0, 0}, nil, []string{"b"}, []string{"a", "c"}},
		{"not a standby", []int{0, 1}, nil, []string{"a"}, []string{"a"}},
		{"nobody is left", []int{0, 0}, nil, []string{"a", "b"}, []string{"a", "b"}},
		{"the other is down", []int{0, 0}, []int{1}, []string{"a"}, []string{"a"}},
		{"a stranger", []int{0, 0}, nil, []string{"x"}, []string{"a", "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tokens := newTokens(len(test.priorities))
				g := start(t, tokens, priorities(test.priorities...))
				for _, i := range test.down {
					tokens[i].SetHook(onRequests(down))
				}
				for range 20 {
					sealed, trace, err := g.Encrypt(inBudget(t), ref, aad, text, test.apart...)
					if err != nil || !slices.Contains(test.want, trace.HSM) {
						t.Fatalf("encrypt: got %v, %+v", err, trace)
					}
					_, trace, err = g.Decrypt(inBudget(t), ref, aad, sealed, test.apart...)
					if err != nil || !slices.Contains(test.want, trace.HSM) {
						t.Fatalf("decrypt: got %v, %+v", err, trace)
					}
				}
			})
		})
	}
}
