package breaker

// The budget for hedged requests.

import (
	"sync/atomic"
)

const (
	hedgeCost  = 100            // of one hedge, in the unit of HedgePercent
	hedgeBurst = 32 * hedgeCost // saved up at most
)

// HedgeBudget limits hedges to a percentage of requests. It starts full, so that the first requests
// that meet a hung HSM can be hedged.
type HedgeBudget struct {
	percent int64
	saved   atomic.Int64
}

// Init sets the percentage of requests that may be hedged; negative allows none.
func (b *HedgeBudget) Init(percent int) {
	b.percent = int64(max(percent, 0))
	if b.percent > 0 {
		b.saved.Store(hedgeBurst)
	}
}

// Earn is called once for every request.
func (b *HedgeBudget) Earn() {
	if b.saved.Load() < hedgeBurst {
		b.saved.Add(b.percent)
	}
}

// Spend takes one hedge from the budget and reports whether it may be made.
func (b *HedgeBudget) Spend() bool {
	for {
		saved := b.saved.Load()
		if saved < hedgeCost {
			return false
		}
		if b.saved.CompareAndSwap(saved, saved-hedgeCost) {
			return true
		}
	}
}
