package group_test

// Tests of planned maintenance: Drain and Resume.

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
)

// TestDrain: under load, nothing fails, nothing is in flight afterwards, and nothing comes until
// Resume.
func TestDrain(t *testing.T) {
	for _, n := range []int{2, 3} {
		synctest.Test(t, func(t *testing.T) {
			tokens := newTokens(n)
			g := start(t, tokens)
			for _, token := range tokens {
				token.SetHook(onRequests(slow(4 * ms)))
			}
			var load sync.WaitGroup
			var total *tally
			load.Go(func() { total = stream(t, g, 4000, ms) })
			time.Sleep(500 * ms)
			for _, name := range []string{"a", "b", "a"} {
				i := int(name[0] - 'a')
				began := time.Now()
				err := g.Drain(t.Context(), name, false)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 10*ms {
					t.Errorf("draining took %v", took)
				}
				before := g.Status().Members[i]
				if before.InFlight != 0 || before.Service != status.Drained ||
					before.Health.Status != status.Unavailable ||
					before.Health.Reason == "" ||
					before.Reason == "" {
					t.Errorf("drained: %+v", before)
				}
				tokens[i].SetHook(all(down)) // the plug is pulled
				time.Sleep(500 * ms)
				tokens[i].SetHook(onRequests(slow(4 * ms)))
				after := g.Status().Members[i]
				if after.Requests != before.Requests || after.Faults != 0 {
					t.Errorf("%d requests while drained", after.Requests-before.Requests)
				}
				err = g.Resume(name)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(500 * ms)
				if resumed := g.Status().Members[i]; resumed.Requests == after.Requests ||
					resumed.Health.Status != status.Active {
					t.Errorf("resumed: %+v", resumed)
				}
			}
			load.Wait()
			total.perfect(t, 5*ms)
			if total.calls != total.made {
				t.Errorf("%d calls for %d requests", total.calls, total.made)
			}
		})
	}
}

// TestDrainWaits: for as long as a request is under way, or until the operator has waited enough.
func TestDrainWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder, func(c *group.Config) { c.HedgePercent = 0 })
		tokens[0].SetHook(onRequests(slow(50 * ms)))
		for _, patience := range []time.Duration{20 * ms, time.Second} {
			var request1 sync.WaitGroup
			request1.Go(func() { served(t, g, "a") })
			time.Sleep(10 * ms)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			began := time.Now()
			err := g.Drain(ctx, "a", false)
			cancel()
			if patience < 40*ms {
				wantError(t, err, context.DeadlineExceeded)
			} else if took := time.Since(began); err != nil || took < 40*ms || took > 45*ms {
				t.Errorf("%v after %v", err, took)
			}
			served(t, g, "b") // drained, in either case
			request1.Wait()
			err = g.Resume("a")
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
	})
}

// TestDrainedMeanwhile: an HSM that is drained while a request is busy elsewhere is
// not asked by that request any more.
func TestDrainedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder, func(c *group.Config) { c.HedgePercent = 0 })
		tokens[0].SetHook(
			onRequests(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
				err := slow(50*ms)(ctx, op, key)
				if err != nil {
					return err
				}
				return down(ctx, op, key)
			}),
		)
		time.AfterFunc(20*ms, func() {
			err := g.Drain(t.Context(), "b", false)
			if err != nil {
				t.Error(err)
			}
		})
		_, trace, err := request(t, g)
		if err == nil {
			t.Errorf("served: %+v", trace)
		}
		if n := g.Status().Members[1].Requests; n != 0 {
			t.Errorf("the drained HSM was asked %d times: %+v", n, trace)
		}
	})
}

// TestDrainRefused: what cannot be drained, and what can be by force.
func TestDrainRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		wantError(t, g.Drain(t.Context(), "c", true), group.ErrUnknownHSM)
		wantError(t, g.Resume("c"), group.ErrUnknownHSM)
		tokens[1].SetHook(all(down))
		time.Sleep(6 * time.Second)
		wantError(t, g.Drain(t.Context(), "a", false), group.ErrLastHSM)
		served(t, g, "a")
		for range 2 { // the second time changes nothing
			err := g.Drain(t.Context(), "b", false)
			if err != nil {
				t.Fatal(err)
			}
		}
		tokens[1].SetHook(nil)
		time.Sleep(10 * time.Second)
		wantError(t, g.Drain(t.Context(), "a", false), group.ErrLastHSM) // b is well, and drained
		err := g.Drain(t.Context(), "a", true)
		if err != nil {
			t.Fatal(err)
		}
		if g.CanServe() || statuses(g) != "a=UNAVAILABLE b=UNAVAILABLE " {
			t.Errorf("got %s", statuses(g))
		}
		began := time.Now()
		_, trace, err := request(t, g)
		wantError(t, err, hsm.ErrUnavailable)
		if trace.Attempts != 0 || time.Since(began) != 0 {
			t.Errorf("got %+v after %v", trace, time.Since(began))
		}
		err = g.Resume("b")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		served(t, g, "b")
	})
}

// TestDrainBoth: of two operators who drain one HSM each at the same moment, one is refused.
func TestDrainBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := start(t, newTokens(2))
		for range 50 {
			var errs [2]error
			var running sync.WaitGroup
			for i, name := range []string{"a", "b"} {
				running.Go(func() { errs[i] = g.Drain(t.Context(), name, false) })
			}
			running.Wait()
			if (errs[0] == nil) == (errs[1] == nil) {
				t.Fatalf("got %v and %v", errs[0], errs[1])
			}
			for _, name := range []string{"a", "b"} {
				err := g.Resume(name)
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
