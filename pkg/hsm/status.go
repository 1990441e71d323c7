package hsm

// What an operator can know of a group and of each of its HSMs, now. Nothing
// here waits for an HSM, and nothing holds a secret.

import "time"

// GroupStatus is a group at one moment.
type GroupStatus struct {
	Name    string         `json:"name"`
	Members []MemberStatus `json:"hsms"`
	Keys    int            `json:"keys"` // labels in the catalogue, of all HSMs together

	// Findings are the differences between the HSMs' keys that stand now (requirement R4).
	Findings []Finding `json:"findings"`
	// CrossChecked counts the key versions whose material was compared since the start, and
	// CrossPending those that still wait for their first comparison.
	CrossChecked uint64 `json:"crossChecked"`
	CrossPending int    `json:"crossPending"`

	Hedges       uint64 `json:"hedges"`       // second attempts because the first was slow
	HedgesDenied uint64 `json:"hedgesDenied"` // not made, for the hedging budget was spent
	Retries      uint64 `json:"retries"`      // attempts after a fault, on another HSM or the same
}

// MemberStatus is one HSM of a group at one moment.
type MemberStatus struct {
	HSM      string    `json:"hsm"`
	Priority int       `json:"priority"`
	Service  Service   `json:"service"`
	Since    time.Time `json:"since"`            // of the service's state
	Reason   string    `json:"reason,omitempty"` // why it is not in service

	// KeptOutUntil: it went out again soon after it came back, so that no probe brings it back before then.
	KeptOutUntil time.Time `json:"keptOutUntil,omitzero"`

	Health Health `json:"health"` // of the last probe

	InFlight int    `json:"inFlight"` // requests of this group that wait for it
	Requests uint64 `json:"requests"` // attempts since the start, probes not included
	Faults   uint64 `json:"faults"`   // of these, faults of the HSM
	Slow     uint64 `json:"slow"`     // of these, so slow that another HSM answered first, or without an answer within the attempt timeout
	Trips    uint64 `json:"trips"`    // times it was taken out by requests or a probe

	P50 time.Duration `json:"p50"` // of recent answers; 0 without any
	P99 time.Duration `json:"p99"`

	LastFault   string    `json:"lastFault,omitempty"` // in words, the CKR name included
	LastFaultAt time.Time `json:"lastFaultAt,omitzero"`

	// Unverified says why the HSM serves some keys only after they were compared with another HSM
	// (requirement R6); "" if it serves all.
	Unverified string `json:"unverified,omitempty"`
	KeyFaults  uint64 `json:"keyFaults"` // attempts that failed because of the key alone
	Unproven   uint64 `json:"unproven"`  // ciphertexts refused without proof

	Keys       int       `json:"keys"`                // labels on it
	KeysListed time.Time `json:"keysListed,omitzero"` // when they were last listed; zero: not since the start

	// Unreadable are the objects that the last listing could not read. They are left out.
	Unreadable []UnreadableObject `json:"unreadable,omitempty"`
}

// Lists reports whether an HSM of the group has shown a key of that label. It never waits for an HSM.
func (g *Group) Lists(label string) bool { return g.catalogue.Load().keys[label] != nil }

// Status is the group at this moment. It never waits for an HSM.
func (g *Group) Status() GroupStatus {
	now := time.Now()
	status := GroupStatus{
		Name: g.config.Name, Keys: len(g.catalogue.Load().keys),
		Hedges: g.hedgesMade.Load(), HedgesDenied: g.hedgesDenied.Load(), Retries: g.retries.Load(),
	}
	status.Findings = g.findings()
	status.CrossChecked, status.CrossPending = g.crossStats()
	for i, health := range g.Health() {
		status.Members = append(status.Members, g.members[i].status(health, now))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, m := range g.members {
		status.Members[i].Keys, status.Members[i].KeysListed = len(m.objects), m.listed
		status.Members[i].Unreadable = m.hidden()
	}
	return status
}

func (m *member) status(health Health, now time.Time) MemberStatus {
	service, since, reason := m.standing.service(now)
	if reason == "" && health.Status != Active {
		reason = health.Reason
	}
	status := MemberStatus{
		HSM: m.Name, Priority: m.Priority, Service: service, Since: since, Reason: reason, Health: health,
		KeptOutUntil: m.standing.keptOutUntil(now),
		InFlight:     int(m.inFlight.Load()), Requests: m.requests.Load(), Faults: m.faults.Load(), Slow: m.slow.Load(), Trips: m.standing.tripCount(),
		P50: time.Duration(m.latency.p50.Load()), P99: time.Duration(m.latency.p99.Load()),
	}
	status.KeyFaults, status.Unproven = m.keyFaults.Load(), m.unproven.Load()
	status.Unverified = m.trust.why()
	if last := m.lastFault.Load(); last != nil {
		status.LastFault, status.LastFaultAt = last.err.Error(), last.at
	}
	return status
}
