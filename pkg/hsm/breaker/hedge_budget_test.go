package breaker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// TestBudget: the saved-up hedges, then a part of the requests, never more; also from many
// goroutines.
func TestBudget(t *testing.T) {
	for _, percent := range []int{-1, 1, 5, 50, 100} {
		t.Run(fmt.Sprint(percent), func(t *testing.T) {
			var b HedgeBudget
			b.Init(percent)
			var spent atomic.Int64
			var running sync.WaitGroup
			const workers, each = 8, 1000
			for range workers {
				running.Go(func() {
					for range each {
						b.Earn()
						if b.Spend() {
							spent.Add(1)
						}
					}
				})
			}
			running.Wait()
			share := max(percent, 0)
			most := int64(workers*each*share/100 + hedgeBurst/hedgeCost)
			if percent < 0 {
				most = 0
			}
			if spent.Load() > min(most+1, workers*each) ||
				spent.Load() < min(most-workers-1, workers*each*int64(share)/100) {
				t.Errorf("%d hedges for %d requests, want %d", spent.Load(), workers*each, most)
			}
		})
	}
}
