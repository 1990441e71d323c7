package group

// How long requests wait: the backlog of each HSM, so that a request that cannot be served in time
// is
// refused while its caller can still do something else (requirement R3), and the background work
// that turns recent answers into estimates.

import (
	"context"
	"time"

	"xks-proxy/pkg/hsm/breaker"
)

// Backlog estimates how long a request that came now would wait for a session of the HSM that it
// would go to, and how long the HSM would then take to answer. wait is 0 while a session is free.
// Rounded up to whole calls, because a wait that
// was promised too short fails the request that was let in.
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

// waiting is how many calls an HSM has not answered.
func (m *member) waiting() int32 {
	n := m.inFlight.Load()
	if m.queueLength != nil {
		n = max(n, int32(m.queueLength.Waiting()))
	}
	return n
}

// load is what pick compares. Calls that no request waits for any more count only when they leave
// no session free: if they did always, an HSM that hangs in one function would get fewer requests
// than it takes to find that out.
func (m *member) load() int32 {
	if n := m.waiting(); m.queue.Wait(n) > 0 {
		return n
	}
	return m.inFlight.Load()
}

// countSessions reads how many sessions each HSM has, which is known once it is logged in.
func (g *Group) countSessions() {
	for _, m := range g.members {
		m.queue.Sessions.Store(int32(m.Token.Info().Sessions))
	}
}

// keepEstimating brings every HSM's estimate up to date until the group ends. Its beat
// also tells when this machine, not an HSM, is what is slow.
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
	// A beat that comes this late means that requests, timers and the HSMs' processes waited for
	// a processor as well; what happened then says nothing about an HSM, nor for a while after.
	starvedDelay = 20 * time.Millisecond
	starvedTime  = time.Second
)

// starved reports whether this machine stood still just now.
func (g *Group) starved() bool {
	at := g.starvedAt.Load()
	return at != nil && time.Since(*at) < starvedTime
}
