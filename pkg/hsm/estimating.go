package hsm

// The background work that turns recent answers into estimates, and notices when this machine, not
// an HSM, is slow.

import (
	"context"
	"time"
)

// keepEstimating brings every HSM's estimate up to date until the group ends. Its beat
// also tells when this machine, not an HSM, is what is slow.
func (g *Group) keepEstimating(ctx context.Context) {
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	due, estimated := time.Now().Add(beatInterval), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		now := time.Now()
		if now.Sub(due) > starvedLate {
			g.starvedAt.Store(&now)
		}
		due = now.Add(beatInterval)
		if now.Sub(estimated) < estimateInterval {
			continue
		}
		estimated = now
		g.countSessions()
		for _, m := range g.members {
			m.latency.estimate(now)
		}
	}
}

const (
	beatInterval = 25 * time.Millisecond
	// A beat that comes this late means that requests, timers and the HSMs' processes waited for
	// a processor as well; what happened then says nothing about an HSM, nor for a while after.
	starvedLate = 20 * time.Millisecond
	starvedTime = time.Second
)

// starved reports whether this machine stood still just now.
func (g *Group) starved() bool {
	at := g.starvedAt.Load()
	return at != nil && time.Since(*at) < starvedTime
}
