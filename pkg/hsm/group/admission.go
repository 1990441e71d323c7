package group

// Admission: which keys an HSM may serve after its token was replaced or its key objects changed
// while it was away, and when these limits end (requirement R6).

import (
	"fmt"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// trusted returns the members of a set whose copy of a key version may be used.
func (g *Group) trusted(set catalogue.Set, ref hsm.KeyRef) catalogue.Set {
	if len(g.members) == 1 {
		return set // there is no other to compare it with
	}
	for _, m := range g.members {
		if set&m.bit != 0 && !m.trust.Allows(ref) {
			set &^= m.bit
		}
	}
	return set
}

// incarnation returns the incarnation of the member's token, or 0 if the token does not count it.
func (m *member) incarnation() uint64 {
	if m.supervised == nil {
		return 0
	}
	return m.supervised.Incarnation()
}

// admit checks the identity of the token that a new process has opened. The first request that
// meets the new process does it, before that process answers any request.
func (g *Group) admit(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := m.incarnation()
	if now == m.admitted.Load() {
		return
	}
	g.identify(m)
	g.crossChecks.InvalidateMember(m.bit)
	m.vetting.Store(true)
	m.admitted.Store(now)
	wake(m.refresh)
}

// identify compares the serial number of the token with that of the previous one. Requires
// Group.mu.
func (g *Group) identify(m *member) {
	serial := m.Token.Info().Serial
	var reason string
	switch {
	case m.serial == serial && m.serialKnown:
		return
	case m.serialKnown:
		reason = fmt.Sprintf(
			"its token was replaced: serial number %q, before %q",
			serial,
			m.serial,
		)
	case g.established:
		reason = fmt.Sprintf("it is new in this group (serial number %q)", serial)
	}
	m.serial, m.serialKnown = serial, true
	if reason == "" || len(g.members) == 1 {
		return
	}
	m.trust.DistrustAll(reason)
	g.log.Error(
		"the HSM serves no key before that key was compared with another HSM, because "+reason,
		zap.String("hsm", m.Name),
	)
}

// vet checks the first listing after an admission; m.objects still holds what was known before.
// Requires Group.mu.
func (g *Group) vet(m *member, now map[string][]hsm.Object) {
	if !m.vetting.Load() || len(g.members) == 1 {
		return
	}
	var changed []hsm.KeyRef
	for _, label := range catalogue.ChangedLabels(m.objects, now) {
		if m.objects == nil || label == g.config.TestKey {
			continue
		}
		for _, object := range now[label] {
			ref := hsm.KeyRef{Label: label, Version: object.Version()}
			if object.IsAES256() && !catalogue.ContainsObject(m.objects[label], object) &&
				g.heldElsewhere(m, ref) {
				changed = append(changed, ref)
			}
		}
	}
	m.trust.Distrust(changed, "key objects changed while it was away")
	if len(changed) > 0 {
		g.log.Warn(
			"key objects changed while the HSM was away: "+
				"it does not serve these keys before they were compared",
			zap.String(
				"hsm",
				m.Name,
			),
			zap.Int("versions", len(changed)),
			zap.String("first", changed[0].Label),
		)
	}
}

// heldElsewhere reports whether another member holds the version and may use it. A version that
// changed on all HSMs, such as one created while the proxy was down, is not held back.
func (g *Group) heldElsewhere(m *member, ref hsm.KeyRef) bool {
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil {
		return false
	}
	v := key.Version(ref.Version)
	return v != nil && g.trusted(v.Usable()&^m.bit, ref) != 0
}

// admitAll admits the tokens of all members and returns their incarnations.
func (g *Group) admitAll() map[*member]uint64 {
	tokens := map[*member]uint64{}
	for _, m := range g.members {
		tokens[m] = m.incarnation()
		if tokens[m] != m.admitted.Load() {
			g.admit(m)
		}
	}
	return tokens
}

// unreplaced returns the members that still have these tokens.
func (g *Group) unreplaced(tokens map[*member]uint64) catalogue.Set {
	var set catalogue.Set
	for _, m := range g.members {
		if tokens[m] == m.incarnation() && tokens[m] == m.admitted.Load() {
			set |= m.bit
		}
	}
	return set
}

// markVerified trusts the versions that a comparison of these tokens found equal. It takes
// Group.mu, as admit does, so a token that arrives now is not mistaken for the one compared.
func (g *Group) markVerified(set catalogue.Set, ref hsm.KeyRef, tokens map[*member]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	set &= g.unreplaced(tokens)
	for _, m := range g.members {
		if set&m.bit != 0 {
			m.trust.Verify(ref)
		}
	}
}

// releaseTrust ends the limits of an HSM once all its keys were compared. It looks at every key.
func (g *Group) releaseTrust(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.vetting.Load() || m.objects == nil {
		return
	}
	var holds []hsm.KeyRef
	for label, objects := range m.objects {
		for _, object := range objects {
			if object.IsAES256() && label != g.config.TestKey {
				holds = append(holds, hsm.KeyRef{Label: label, Version: object.Version()})
			}
		}
	}
	if !m.trust.Release(holds) {
		return
	}
	g.log.Info(
		"every key of the HSM was compared: it serves all of them again",
		zap.String("hsm", m.Name),
	)
	m.unsaved = true
	wake(m.refresh) // which writes down what it holds now
}

// anyLimited reports whether an HSM waits for comparisons.
func (g *Group) anyLimited() bool {
	for _, m := range g.members {
		if m.trust.Limited.Load() {
			return true
		}
	}
	return false
}
