package group

// The backlog of each HSM, so that a request that cannot be served in time is refused while its
// caller can still do something else (requirement R3), and the background loop that turns recent
// answers into estimates.

import (
	"context"
	"time"

	"xks-proxy/pkg/hsm/breaker"
)

// Backlog estimates how long a request that arrives now waits for a session of the HSM that it
// would go to, and how long that HSM then takes to answer. wait is 0 while a session is free, and
// otherwise rounded up to whole calls, because too short an estimate admits a request that then
// fails.
func (g *Group) Backlog() (wait, answer time.Duration) {
	var best *member
	var bestRank int
	for _, m := range g.members {
		rank := m.breaker.Rank()
		if rank == breaker.NotEligible {
			continue
		}
		mine := m.queue.Wait(m.waiting())
		better := best == nil || rank < bestRank ||
			rank == bestRank &&
				(m.Priority < best.Priority || m.Priority == best.Priority && mine < wait)
		if better {
			best, bestRank, wait = m, rank, mine
		}
	}
	if best == nil {
		return 0, 0
	}
	return wait, time.Duration(best.queue.Service.Load())
}

// waiting returns how many calls the HSM has not answered.
func (m *member) waiting() int32 {
	n := m.inFlight.Load()
	if m.queueLength != nil {
		n = max(n, int32(m.queueLength.Waiting()))
	}
	return n
}

// load returns the load that pick compares. Calls that no request waits for any more count only if
// they leave no session free. Otherwise an HSM that hangs in one function would get too few
// requests to be noticed.
func (m *member) load() int32 {
	if n := m.waiting(); m.queue.Wait(n) > 0 {
		return n
	}
	return m.inFlight.Load()
}

// countSessions reads the number of sessions of each HSM, which is known after login.
func (g *Group) countSessions() {
	for _, m := range g.members {
		m.queue.Sessions.Store(int32(m.Token.Info().Sessions))
	}
}

// estimateLoop updates the estimates of every HSM until the group ends. Its ticks also show when
// this machine, not an HSM, is slow.
func (g *Group) estimateLoop(ctx context.Context) {
	beat := time.NewTicker(tickInterval)
	defer beat.Stop()
	due, estimated := time.Now().Add(tickInterval), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		now := time.Now()
		if now.Sub(due) > starvedDelay {
			g.starvedAt.Store(&now)
		}
		due = now.Add(tickInterval)
		if now.Sub(estimated) < breaker.EstimateInterval {
			continue
		}
		estimated = now
		g.countSessions()
		for _, m := range g.members {
			m.latency.Estimate(now)
		}
	}
}

const (
	tickInterval = 25 * time.Millisecond
	// A tick this late means that requests, timers and the HSMs' processes also waited for a
	// processor. Then, and for a while after, slow calls say nothing about an HSM.
	starvedDelay = 20 * time.Millisecond
	starvedTime  = time.Second
)

// starved reports whether this machine has just stood still.
func (g *Group) starved() bool {
	at := g.starvedAt.Load()
	return at != nil && time.Since(*at) < starvedTime
}
