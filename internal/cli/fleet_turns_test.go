package cli

// One order at a time for each HSM.

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"xks-proxy/internal/fleet"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var orders fleet.Turns
		end, err := orders.Take(t.Context(), "hsm-a", "a restart by user 1")
		if err != nil {
			t.Fatal(err)
		}
		other, err := orders.Take(t.Context(), "hsm-b", "a drain by user 1")
		if err != nil {
			t.Fatal("an order for another HSM waits:", err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err = orders.Take(ctx, "hsm-a", "a drain by user 2")
		const want = "a restart by user 1 has been under way for 3s: nothing was changed for hsm-a; ask again when that has ended"
		if !errors.Is(err, fleet.ErrUnderWay) || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
		var running int
		var waiting sync.WaitGroup
		for range 20 {
			waiting.Go(func() {
				end, err := orders.Take(t.Context(), "hsm-a", "a drain")
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
		if running != 20 || len(orders.Now) != 0 {
			t.Errorf("%d of 20 had their turn; %d left", running, len(orders.Now))
		}
	})
}
