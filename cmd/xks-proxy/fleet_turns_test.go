package main

// One order at a time for each HSM.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var orders turns
		end, err := orders.take(t.Context(), "hsm-a", "a restart by user 1")
		if err != nil {
			t.Fatal(err)
		}
		other, err := orders.take(t.Context(), "hsm-b", "a drain by user 1")
		if err != nil {
			t.Fatal("an order for another HSM waits:", err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = orders.take(ctx, "hsm-a", "a drain by user 2")
		const want = "a restart by user 1 has been under way for 3s: nothing was changed for hsm-a; ask again when that has ended"
		if !errors.Is(err, errUnderWay) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		var running int
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() {
				end, err := orders.take(t.Context(), "hsm-a", "a drain")
				if err != nil {
					t.Error(err)
					return
				}
				running++ // no lock: the race detector tells if two are here
				time.Sleep(time.Second)
				end()
			})
		}
		time.Sleep(time.Second)
		end()
		waiting.Wait()
		if running != 20 || len(orders.now) != 0 {
			t.Errorf("%d of 20 had their turn; %d left", running, len(orders.now))
		}
	})
}
