package hsm

// How the catalogue is made from what the HSMs listed, and put in the place of the one before.

import (
	"maps"
	"slices"

	"go.uber.org/zap"
)

// rebuild makes the catalogue anew from all members. Group.mu is held.
func (g *Group) rebuild() {
	next := &catalogue{keys: map[string]*Key{}}
	clear(g.parity.found)
	for _, m := range g.members {
		if m.objects == nil {
			next.unknown |= m.bit
		}
		for label := range m.objects {
			if next.keys[label] == nil {
				next.keys[label] = g.newKeyOf(label)
			}
		}
	}
	g.publish(next)
}

// rebuildOne makes the catalogue anew for one label. Group.mu is held.
func (g *Group) rebuildOne(label string) {
	old := g.catalogue.Load()
	next := &catalogue{keys: maps.Clone(old.keys), unknown: old.unknown}
	delete(next.keys, label)
	delete(g.parity.found, label)
	if key := g.newKeyOf(label); key != nil {
		next.keys[label] = key
	}
	g.publish(next)
}

// newKeyOf makes the key of a label from all members, and notes in what they differ. Group.mu is held.
func (g *Group) newKeyOf(label string) *Key {
	views := g.views(label)
	key := newKey(label, views)
	if key != nil {
		g.parity.judge(key)
		g.parity.compareViews(label, views)
	}
	return key
}

// loggedGone is how many of the keys that are gone a log line names.
const loggedGone = 10

// publish puts a catalogue in force, with the findings that come of it. Group.mu is held.
func (g *Group) publish(next *catalogue) {
	before := g.catalogue.Swap(next)
	g.parity.forgetGone(next)
	g.settle()
	if before == nil {
		return
	}
	var gone []string
	for label := range before.keys {
		if next.keys[label] == nil {
			gone = append(gone, label)
		}
	}
	slices.Sort(gone)
	if len(gone) > 0 {
		g.log.Warn("keys are gone from every HSM of the group", zap.Int("keys", len(gone)), zap.Strings("labels", ShowLabels(gone[:min(len(gone), loggedGone)])))
	}
}

func (g *Group) views(label string) []view {
	views := make([]view, len(g.members))
	for i, m := range g.members {
		views[i] = view{name: m.Name, bit: m.bit, seen: m.objects != nil, away: g.parity.away&m.bit != 0, hidden: m.hides(label), objects: m.objects[label]}
	}
	return views
}
