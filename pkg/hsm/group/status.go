package group

// The status of a group and its HSMs. Nothing here waits for an HSM or holds a secret.

import (
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
)

// HasKey reports whether the catalogue has a key with this label. It never waits for an HSM.
func (g *Group) HasKey(label string) bool { return g.catalogue.Load().Keys[label] != nil }

// Status returns the current status of the group. It never waits for an HSM.
func (g *Group) Status() status.Group {
	now := time.Now()
	status := status.Group{
		Name: g.config.Name, Keys: len(g.catalogue.Load().Keys),
		Hedges: g.hedgesMade.Load(), HedgesDenied: g.hedgesDenied.Load(), Retries: g.retries.Load(),
	}
	status.Findings = g.findings()
	status.CrossChecked, status.CrossPending = g.crossCheckStats()
	for i, health := range g.Health() {
		status.Members = append(status.Members, g.members[i].status(health, now))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, m := range g.members {
		status.Members[i].Keys, status.Members[i].KeysListed = len(m.objects), m.listed
		status.Members[i].Unreadable = m.unreadableObjects()
	}
	return status
}

func (m *member) status(health status.Health, now time.Time) status.Member {
	service, since, reason := m.breaker.Service(now)
	if reason == "" && health.Status != status.Active {
		reason = health.Reason
	}
	status := status.Member{
		HSM: m.Name, Priority: m.Priority,
		Service: service, Since: since, Reason: reason, Health: health,
		KeptOutUntil: m.breaker.BackoffUntil(now),
		InFlight:     int(m.inFlight.Load()),
		Requests:     m.requests.Load(), Faults: m.faults.Load(),
		Slow: m.slow.Load(), Trips: m.breaker.TripCount(),
		P50: hsm.Milliseconds(m.latency.P50.Load()), P99: hsm.Milliseconds(m.latency.P99.Load()),
	}
	status.KeyFaults, status.Unproven = m.keyFaults.Load(), m.unproven.Load()
	status.Unverified = m.trust.Reason()
	if last := m.lastFault.Load(); last != nil {
		status.LastFault, status.LastFaultAt = last.err.Error(), last.at
	}
	return status
}
