package hsm

// Hedging: when a request that is slow goes to a second HSM as well.

import (
	"time"
)

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
