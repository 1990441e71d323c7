package group

// Which HSM may be asked for a key although its token has changed: what a new token, or one whose
// objects changed while it was away, is held back from, and when it is released (requirement R6).

import (
	"fmt"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// trusted leaves the members of a set whose copy of a key version may be used.
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

// incarnation is the token's, 0 where it cannot tell.
func (m *member) incarnation() uint64 {
	if m.supervised == nil {
		return 0
	}
	return m.supervised.Incarnation()
}

// admit looks at the identity of the token that a new process has opened, before any request is
// answered by it. The request that meets the new process first does it.
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

// identify compares the token's serial number with that of the one that was there before.
// Group.mu is held.
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

// vet is called with what the first listing after an admission showed. Group.mu is held, and
// m.objects is what was known before.
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
			"key objects changed while the HSM was away: it does not serve these keys before they were compared",
			zap.String(
				"hsm",
				m.Name,
			),
			zap.Int("versions", len(changed)),
			zap.String("first", changed[0].Label),
		)
	}
}

// heldElsewhere reports whether another member is known to hold the version and may use it: a
// version that changed everywhere, because it was made while the proxy was down, is not held back.
func (g *Group) heldElsewhere(m *member, ref hsm.KeyRef) bool {
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil {
		return false
	}
	v := key.Version(ref.Version)
	return v != nil && g.trusted(v.Usable()&^m.bit, ref) != 0
}

// admitAll admits the tokens of all members. It returns the incarnation of each.
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

// unreplaced are the members that still have the tokens given.
func (g *Group) unreplaced(tokens map[*member]uint64) catalogue.Set {
	var set catalogue.Set
	for _, m := range g.members {
		if tokens[m] == m.incarnation() && tokens[m] == m.admitted.Load() {
			set |= m.bit
		}
	}
	return set
}

// believe trusts the versions that a comparison of these tokens found to agree. Group.mu, which
// admit holds as well, is not held: a token that comes now is not mistaken for the one compared.
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

// releaseTrust ends the limits of an HSM all of whose keys were compared. It looks at every key.
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

// limits reports whether any HSM waits for comparisons.
func (g *Group) anyLimited() bool {
	for _, m := range g.members {
		if m.trust.Limited.Load() {
			return true
		}
	}
	return false
}
