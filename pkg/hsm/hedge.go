package hsm

// Hedging: when a request that is slow goes to a second HSM as well, and how
// often that may happen.

import (
	"sync/atomic"
	"time"
)

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

// hedgeDelay is after how long a request on this HSM is slow: twice what 99 of
// 100 recent answers took, not below HedgeAfter, and not above AttemptTimeout.
func (g *Group) hedgeDelay(m *member) time.Duration {
	p99 := time.Duration(m.latency.p99.Load())
	if p99 == 0 {
		return max(g.config.HedgeAfter, g.config.AttemptTimeout/2)
	}
	return min(max(2*p99, g.config.HedgeAfter), g.config.AttemptTimeout)
}

// quickOnes are the members of a set that would probably answer within the time
// given: able to, not slow themselves and, for what must not double the load of a
// group that is slow as a whole, heard of since they last let a call go unanswered.
func (g *Group) quickOnes(set memberSet, within time.Duration, overdue bool) memberSet {
	var quick memberSet
	set = g.able(set)
	for _, m := range g.members {
		if set&m.bit == 0 || overdue && m.standing.silent.Load() || m.vetting.Load() {
			continue
		}
		if m.queue.wait(m.waiting())+time.Duration(m.latency.p50.Load()) < within {
			quick |= m.bit
		}
	}
	return quick
}

// freeOnes are the members of a set that have a session free.
func (g *Group) freeOnes(set memberSet) memberSet {
	var free memberSet
	for _, m := range g.members {
		if set&m.bit != 0 && m.queue.wait(m.waiting()) == 0 {
			free |= m.bit
		}
	}
	return free
}
