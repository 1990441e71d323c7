package group

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm/breaker"
	"xks-proxy/pkg/hsm/status"
)

// While this machine stands still, calls without an answer make an HSM suspected, and do not take
// it out.
func TestStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{config: Config{}.withDefaults(), log: zap.NewNop()}
		for i := range 2 {
			m := &member{
				bit:        1 << i,
				probe:      make(chan struct{}, 1),
				suspicions: rate.NewLimiter(rate.Inf, 1),
			}
			m.health.Store(&probeResult{Health: status.Health{Status: status.Active}})
			g.members = append(g.members, m)
		}
		m := g.members[0]
		now := time.Now()
		g.starvedAt.Store(&now)
		for range 2 * breaker.FaultsToTrip {
			g.unanswered(m, time.Second)
		}
		if m.breaker.Out.Load() || !m.breaker.Suspect.Load() {
			t.Errorf("out %t, suspected %t", m.breaker.Out.Load(), m.breaker.Suspect.Load())
		}
		late := &measurement{encrypt: time.Second}
		if state, _ := g.judgeLatency(m, late); state != status.Degraded {
			t.Errorf("a late probe: %s", state)
		}
		time.Sleep(starvedTime)
		if state, _ := g.judgeLatency(m, late); state != status.Unavailable {
			t.Errorf("a late probe afterwards: %s", state)
		}
		for range breaker.FaultsToTrip {
			g.unanswered(m, time.Second)
		}
		if !m.breaker.Out.Load() {
			t.Error("afterwards, too, it stays in service")
		}
	})
}

// Ticks that are on time mean nothing.
func TestBeatOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{}
		go g.estimateLoop(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		if g.starved() {
			t.Error("starved, with every beat on time")
		}
	})
}
