package group

// How an HSM goes out of service, comes back, and is drained.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// Errors of Drain and Resume.
var (
	ErrUnknownHSM = errors.New("no such HSM in the group")
	// ErrLastHSM says that no other HSM of the group can serve.
	ErrLastHSM = errors.New("no other HSM of the group can serve")
)

// Each HSM may log a few suspicions at once, and then one every suspicionInterval.
const (
	suspicionInterval = 10 * time.Second
	suspicionBurst    = 4
)

// recordResult counts the result of a call and trips the breaker after too many faults.
func (g *Group) recordResult(m *member, err error) {
	if hsm.IsFault(err) {
		if !errors.Is(err, hsm.ErrBusy) {
			m.faults.Add(1)
		}
		m.lastFault.Store(&fault{err: hsm.WithHSM(err, m.Name), at: time.Now()})
	}
	if m.breaker.Record(err) {
		g.takeOut(m, err)
	}
}

// fault is the last fault of an HSM, for the operator.
type fault struct {
	err error
	at  time.Time
}

// unanswered handles a call without an answer for the attempt timeout: the HSM becomes suspect,
// which a probe now checks.
func (g *Group) unanswered(m *member, elapsed time.Duration) {
	err := &hsm.Error{
		HSM:    m.Name,
		Op:     "serve",
		Kind:   hsm.Timeout(context.DeadlineExceeded),
		Detail: fmt.Sprintf("no answer for %v", elapsed.Round(time.Millisecond)),
	}
	m.slow.Add(1)
	m.breaker.Unresponsive.Store(true)
	m.lastFault.Store(&fault{err: err, at: time.Now()})
	// If no other HSM is fast, the group is slow as a whole, and taking its HSMs out does not help.
	if !g.starved() && m.breaker.Record(err) &&
		g.fastMembers(^m.bit, g.config.AttemptTimeout/2, true) != 0 {
		g.takeOut(m, err)
	}
	g.suspect(m, err)
}

// answered records an answer.
func (m *member) answered(inTime bool) {
	if m.overtakes.Load() > 0 {
		m.overtakes.Add(-1)
	}
	if inTime && m.breaker.Unresponsive.Load() {
		m.breaker.Unresponsive.Store(false)
	}
}

// overtaken handles a slow request that another HSM answered first. That is normal, but if it
// repeats the HSM becomes suspect: under load, hedges could hide an HSM that hangs.
func (g *Group) overtaken(m *member, elapsed time.Duration) {
	if elapsed < g.config.AttemptTimeout { // later, it was counted already
		m.slow.Add(1)
	}
	if m.overtakes.Add(overtakenWeight) < overtakesToSuspect {
		return
	}
	m.overtakes.Store(0)
	g.suspect(m, &hsm.Error{HSM: m.Name, Op: "serve", Kind: hsm.Timeout(context.DeadlineExceeded),
		Detail: fmt.Sprintf(
			"request after request was answered by another HSM first, the last after %v",
			elapsed.Round(time.Millisecond),
		)})
}

// One overtaken request weighs as much as three answered ones, because an HSM may hang in one
// function only. Two in a row are enough.
const (
	overtakenWeight    = 3
	overtakesToSuspect = 6
)

// suspect makes requests skip an HSM until a probe, which starts now, succeeds.
func (g *Group) suspect(m *member, err error) {
	if !m.breaker.MarkSuspect(err.Error(), time.Now()) {
		return
	}
	m.lastFault.Store(&fault{err: err, at: time.Now()})
	if m.supervised != nil {
		m.supervised.Suspect()
	}
	if m.suspicions.Allow() {
		m.suspicionLogged.Store(true)
		g.log.Warn(
			"HSM suspected of hanging: requests go to another HSM until a probe succeeds",
			zap.String("hsm", m.Name),
			zap.Error(err),
		)
	}
	wake(m.probe) // after the line above, which the probe may answer with one of its own
}

// takeOut takes an HSM out because of the faults of requests.
func (g *Group) takeOut(m *member, cause error) {
	stay, first := m.breaker.Trip(cause.Error(), time.Now())
	if !first {
		return
	}
	g.log.Warn(
		"HSM taken out of service",
		zap.String("hsm", m.Name),
		zap.Error(cause),
		zap.Duration("at_least", stay),
	)
	wake(m.probe)
}

// putBack handles a successful probe.
func (g *Group) putBack(m *member) {
	suspect := m.breaker.Suspect.Load()
	back := m.breaker.ProbeSucceeded(time.Now())
	if suspect && m.suspicionLogged.Swap(false) && !back && !m.breaker.Out.Load() {
		g.log.Info("HSM no longer suspected: a probe succeeded", zap.String("hsm", m.Name))
	}
	if !back || m.breaker.Drained.Load() {
		return
	}
	g.log.Info("HSM is back in service", zap.String("hsm", m.Name))
	wake(m.refresh)
	g.crossChecks.InvalidateMember(m.bit) // whatever was done to its keys meanwhile
}

// anyRecentlyHealthy reports whether a member of the set is in service or was healthy a moment ago.
func (g *Group) anyRecentlyHealthy(set catalogue.Set) bool {
	now := time.Now()
	for _, m := range g.members {
		if set&m.bit == 0 {
			continue
		}
		if m.breaker.WasHealthy(recentOutage, now) {
			return true
		}
	}
	return false
}

// Drain takes an HSM out for an operator: it gets no new requests until Resume, even if no other
// HSM is left. It returns when no request is in flight on the HSM, or ctx.Err(). Errors:
// ErrUnknownHSM, and ErrLastHSM if no other HSM could serve and force is false.
func (g *Group) Drain(ctx context.Context, hsm string, force bool) error {
	m := g.member(hsm)
	if m == nil {
		return fmt.Errorf("%q: %w", hsm, ErrUnknownHSM)
	}
	g.draining.Lock() // of two drains at once, one must see the other
	if !force && g.inService(^m.bit) == 0 {
		g.draining.Unlock()
		return fmt.Errorf("%q: %w", hsm, ErrLastHSM)
	}
	m.breaker.SetDrained(true, time.Now())
	g.draining.Unlock()
	g.log.Warn("HSM drained", zap.String("hsm", hsm), zap.Bool("forced", force))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for m.inFlight.Load() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Resume ends a drain. The HSM is probed at once and serves again if it is healthy. Error:
// ErrUnknownHSM.
func (g *Group) Resume(hsm string) error {
	m := g.member(hsm)
	if m == nil {
		return fmt.Errorf("%q: %w", hsm, ErrUnknownHSM)
	}
	m.breaker.SetDrained(false, time.Now())
	g.log.Info("HSM resumed", zap.String("hsm", hsm))
	wake(m.refresh)
	wake(m.probe)
	return nil
}

// Probe starts a probe of an HSM now. It does not wait for it.
func (g *Group) Probe(hsm string) {
	if m := g.member(hsm); m != nil {
		wake(m.probe)
	}
}

// others returns the names of all other HSMs of the group.
func (g *Group) others(hsm string) []string {
	var others []string
	for _, m := range g.members {
		if m.Name != hsm {
			others = append(others, m.Name)
		}
	}
	return others
}

func (g *Group) member(hsm string) *member {
	for _, m := range g.members {
		if m.Name == hsm {
			return m
		}
	}
	return nil
}
