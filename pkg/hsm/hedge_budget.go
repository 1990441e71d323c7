package hsm

// How often a slow request may go to a second HSM as well.

import "sync/atomic"

const (
	hedgeCost  = 100            // of one hedge, in the unit of HedgePercent
	hedgeBurst = 32 * hedgeCost // saved up at most
)

// hedgeBudget lets a few of a hundred requests be hedged. It starts full, so
// that the first requests that meet a hung HSM are.
type hedgeBudget struct {
	percent int64
	saved   atomic.Int64
}

// init sets how many of a hundred requests may be hedged; negative is none.
func (b *hedgeBudget) init(percent int) {
	b.percent = int64(max(percent, 0))
	if b.percent > 0 {
		b.saved.Store(hedgeBurst)
	}
}

// earn is called for every request.
func (b *hedgeBudget) earn() {
	if b.saved.Load() < hedgeBurst {
		b.saved.Add(b.percent)
	}
}

// spend reports whether one more hedge may be made.
func (b *hedgeBudget) spend() bool {
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
