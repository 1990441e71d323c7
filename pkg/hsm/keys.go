package hsm

// The keys of a group as operators see them.

import (
	"maps"
	"slices"
)

// Keys reports all keys for which want is true, sorted by label and version.
func (g *Group) Keys(want func(label string) bool) []KeyReport {
	known, held := g.held()
	notes := map[string][]Finding{}
	for _, f := range g.findings() {
		notes[f.Label] = append(notes[f.Label], f)
	}
	reports := []KeyReport{}
	for _, label := range slices.Sorted(maps.Keys(known.keys)) {
		if want(label) {
			base := KeyReport{Group: g.config.Name, TestKey: label == g.config.TestKey}
			reports = append(reports, known.keys[label].report(base, held, notes[label])...)
		}
	}
	return reports
}

// held is the catalogue and what it was made from. A member's list of objects never changes
// once it is known; only which list it is does.
func (g *Group) held() (*catalogue, []heldKeys) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make([]heldKeys, len(g.members))
	for i, m := range g.members {
		held[i] = heldKeys{name: m.Name, objects: maps.Clone(m.objects), unreadable: map[string]bool{}}
		for _, o := range m.unreadable {
			held[i].unreadable[o.Label] = true
		}
	}
	return g.catalogue.Load(), held
}
