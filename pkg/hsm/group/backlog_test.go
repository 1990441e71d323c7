package group_test

// Backlog: the estimate of the wait for a session, against HSMs with few sessions and a line before
// them (requirement R3).

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
)

// sessions lets so many calls run at once, each for so long; the others queue.
func sessions(n int, each time.Duration) hsmtest.Hook {
	free := make(chan struct{}, n)
	return onRequests(func(ctx context.Context, _ hsmtest.Op, _ hsm.KeyRef) error {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		time.Sleep(each) // a call in a session cannot be cancelled
		<-free
		return nil
	})
}

// hsmtest's HSMs say that they have this many.
const testSessions = 16

func TestBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		for _, token := range tokens {
			token.SetHook(sessions(testSessions, 8*time.Millisecond))
		}
		if wait, _ := g.Backlog(); wait != 0 {
			t.Fatalf("a wait of %v with nothing to do", wait)
		}
		for range 100 {
			_, _, err := request(t, g)
			wantError(t, err, nil)
		}
		for _, c := range []struct {
			inFlight int
			want     time.Duration
		}{{2*testSessions - 1, 0}, {2 * testSessions, 8 * time.Millisecond}, {4*testSessions - 1, 8 * time.Millisecond}, {4 * testSessions, 16 * time.Millisecond}} {
			var all sync.WaitGroup
			for range c.inFlight {
				all.Go(func() { _, _, _ = request(t, g) })
			}
			synctest.Wait()
			wait, answer := g.Backlog()
			if wait < c.want*6/10 || wait > c.want*15/10 || answer < 5*time.Millisecond ||
				answer > 12*time.Millisecond {
				t.Errorf(
					"with %d in flight: a wait of %v, not %v, and %v for the answer",
					c.inFlight,
					wait,
					c.want,
					answer,
				)
			}
			all.Wait()
		}
		if wait, _ := g.Backlog(); wait != 0 {
			t.Errorf("a wait of %v when all is done", wait)
		}
	})
}

// TestBacklogOfTheOneThatServes: only the HSM that the request would go to counts.
func TestBacklogOfTheOneThatServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens, inOrder)
		for _, token := range tokens {
			token.SetHook(sessions(testSessions, 4*time.Millisecond))
		}
		var all sync.WaitGroup
		for range 2 * testSessions {
			all.Go(func() { _, _, _ = request(t, g) })
		}
		all.Wait()
		for range 2 * testSessions {
			all.Go(func() { _, _, _ = request(t, g) })
		}
		synctest.Wait()
		if wait, _ := g.Backlog(); wait == 0 {
			t.Error("the standby's free sessions hide the line before the HSM that serves")
		}
		all.Wait()
	})
}

// TestBacklogAllocatesNothing: it is asked on every request.
func TestBacklogAllocatesNothing(t *testing.T) {
	g := start(t, newTokens(2))
	if n := testing.AllocsPerRun(100, func() { g.Backlog() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestResolversDoNotStarveEachOther: one resolver that asks for unknown keys endlessly leaves the others
// their look-ups (requirement R3).
func TestResolversDoNotStarveEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := newTokens(2)
		g := start(t, tokens)
		noisy, quiet := g.NewResolver(), g.NewResolver()
		before, refused := finds(tokens), 0
		for i := range 10_000 {
			_, err := noisy.Key(inBudget(t), fmt.Sprint("unknown-", i))
			if errors.Is(err, group.ErrLookupLimit) {
				refused++
			}
			if i%1000 == 999 {
				_, err := quiet.Key(inBudget(t), fmt.Sprint("mine-", i))
				wantError(t, err, hsm.ErrKeyNotFound)
			}
			time.Sleep(time.Millisecond)
		}
		looks := (finds(tokens) - before) / 2
		if looks < 110 || looks > 122 ||
			refused < 9000 { // of the noisy one 10 at once and 10 a second, for ten seconds; 10 of the other
			t.Errorf("%d looks, %d refused", looks, refused)
		}
	})
}

func BenchmarkBacklog(b *testing.B) {
	g := start(b, newTokens(2))
	b.ReportAllocs()
	for b.Loop() {
		g.Backlog()
	}
}
