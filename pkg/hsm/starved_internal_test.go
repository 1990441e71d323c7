package hsm

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// While this machine stands still, calls without an answer make an HSM suspected, and do not take it out.
func TestStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{config: GroupConfig{}.withDefaults(), log: zap.NewNop()}
		for i := range 2 {
			m := &member{bit: 1 << i, probe: make(chan struct{}, 1), suspicions: rate.NewLimiter(rate.Inf, 1)}
			m.health.Store(&probed{Health: Health{Status: Active}})
			g.members = append(g.members, m)
		}
		m := g.members[0]
		now := time.Now()
		g.starvedAt.Store(&now)
		for range 2 * faultsToGoOut {
			g.unanswered(m, time.Second)
		}
		if m.standing.out.Load() || !m.standing.suspect.Load() {
			t.Errorf("out %t, suspected %t", m.standing.out.Load(), m.standing.suspect.Load())
		}
		late := &probe{encrypt: time.Second}
		if state, _ := g.timely(m, late); state != Degraded {
			t.Errorf("a late probe: %s", state)
		}
		time.Sleep(starvedTime)
		if state, _ := g.timely(m, late); state != Unavailable {
			t.Errorf("a late probe afterwards: %s", state)
		}
		for range faultsToGoOut {
			g.unanswered(m, time.Second)
		}
		if !m.standing.out.Load() {
			t.Error("afterwards, too, it stays in service")
		}
	})
}

// Beats that are on time mean nothing.
func TestBeatOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Group{}
		go g.keepEstimating(t.Context())
		time.Sleep(time.Minute)
		synctest.Wait()
		if g.starved() {
			t.Error("starved, with every beat on time")
		}
	})
}
