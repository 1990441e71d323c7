package breaker

// How often a slow request may go to a second HSM as well.

import (
	"sync/atomic"
)

const (
	hedgeCost  = 100            // of one hedge, in the unit of HedgePercent
	hedgeBurst = 32 * hedgeCost // saved up at most
)

// HedgeBudget lets a few of a hundred requests be hedged. It starts full, so
// that the first requests that meet a hung HSM are.
type HedgeBudget struct {
	percent int64
	saved   atomic.Int64
}

// Init sets how many of a hundred requests may be hedged; negative is none.
func (b *HedgeBudget) Init(percent int) {
	b.percent = int64(max(percent, 0))
	if b.percent > 0 {
		b.saved.Store(hedgeBurst)
	}
}

// Earn is called for every request.
func (b *HedgeBudget) Earn() {
	if b.saved.Load() < hedgeBurst {
		b.saved.Add(b.percent)
	}
}

// Spend reports whether one more hedge may be made.
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
