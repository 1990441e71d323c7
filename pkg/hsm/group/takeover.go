package group

// What a group keeps across restarts, and how a group takes over from another of the same name
// during a reload: it starts with the knowledge of its predecessor, and only one of the two writes
// to the state directory.

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// StopSaving stops writing to the state directory and waits for a write in progress. A replaced
// group must not overwrite the results of its successor.
func (g *Group) StopSaving() { g.store.Pause() }

// TakeOver lets a provisional group (Config.Provisional) write to the state directory in place of
// its predecessor, which stops.
func (g *Group) TakeOver() {
	g.mu.Lock()
	old := g.predecessor
	g.predecessor = nil // and with it all that it holds
	g.mu.Unlock()
	if old != nil {
		old.StopSaving()
		g.adoptLateFindings(old)
	}
	g.store.Resume()
	for _, m := range g.members {
		g.saveNow(m)
	}
	g.mu.Lock()
	g.parity.Unsaved = true
	g.mu.Unlock()
	g.saveParity()
}

// adoptLateFindings copies the divergences that the predecessor found after this group started.
// Otherwise Encrypt would use these versions until their next comparison here.
func (g *Group) adoptLateFindings(old *Group) {
	old.mu.Lock()
	diverged := maps.Clone(old.parity.Diverged)
	old.mu.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	for ref, finding := range diverged {
		if _, known := g.parity.Diverged[ref]; !known {
			g.parity.Diverged[ref] = finding
			g.rebuildOne(ref.Label)
		}
	}
}

// saveNow writes what is known about a member. A concurrent listing may be overwritten; the next
// one writes again.
func (g *Group) saveNow(m *member) {
	g.mu.Lock()
	seen := m.objects != nil
	objects := slices.Concat(slices.Collect(maps.Values(m.objects))...)
	m.unsaved = true
	g.mu.Unlock()
	if seen {
		g.saveCatalogue(m, objects) // says itself what went wrong
	}
	wake(m.refresh)
}

// restore sets what the group knows before it asks an HSM: the knowledge of its predecessor, or the
// state directory. The group is not running yet.
//
// An HSM that is away keeps its last known keys, even without a state directory. The record of
// complete versions is dropped if an HSM has joined (see loadParity).
func (g *Group) restore(old *Group) {
	g.predecessor = old
	g.established = old != nil
	for _, m := range g.members {
		if old == nil || old.member(m.Name) == nil {
			g.loadCatalogue(m)
		}
	}
	if old == nil {
		g.loadParity()
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	joined := false
	for _, m := range g.members {
		before := old.member(m.Name)
		joined = joined || before == nil
		if before != nil && before.objects != nil {
			m.objects = g.reread(old, before.objects)
		}
		if before != nil {
			m.trust = before.trust.Clone()
			m.serial, m.serialKnown = before.serial, before.serialKnown
		}
		if before != nil && before.Token == m.Token {
			m.trust = before.trust // what one group finds out of it is true for both
			m.admitted.Store(before.admitted.Load())
			m.vetting.Store(before.vetting.Load())
		}
	}
	maps.Copy(g.parity.Diverged, old.parity.Diverged)
	if !joined &&
		g.config.KeyVersion == old.config.KeyVersion { // else numbers may mean other objects
		maps.Copy(g.parity.WasComplete, old.parity.WasComplete)
	}
}

// reread returns objects of the predecessor with their versions by this group's rule.
func (g *Group) reread(old *Group, before map[string][]hsm.Object) map[string][]hsm.Object {
	objects := maps.Clone(before)
	if g.config.KeyVersion == old.config.KeyVersion {
		return objects
	}
	for label, list := range objects {
		objects[label] = hsm.ReadBy(g.config.KeyVersion, slices.Clone(list))
	}
	return objects
}

// saveCatalogue writes a member's catalogue and reports whether that succeeded. A failure is only
// logged: it matters after a restart without that HSM.
func (g *Group) saveCatalogue(m *member, objects []hsm.Object) bool {
	if !g.store.IsPersistent() {
		return true
	}
	if m.trust.Limited.Load() {
		return false // what was known before stays until all was compared: a restart begins there
	}
	err := g.store.WriteCatalogue(m.Name, m.Token.Info().Serial, objects)
	if err != nil {
		g.log.Error(
			"cannot save the key catalogue; a restart without this HSM would not know its keys",
			zap.String("hsm", m.Name),
			zap.Error(err),
		)
	}
	return err == nil
}

// loadCatalogue reads a member's saved catalogue.
func (g *Group) loadCatalogue(m *member) {
	memory, err := g.store.ReadCatalogue(m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error("cannot read the saved key catalogue; delete the file once the HSM is up",
			zap.String("hsm", m.Name), zap.Error(err))
		return
	}
	m.objects = memory.ByLabel(g.config.KeyVersion)
	m.serial, m.serialKnown, g.established = memory.Serial, true, true
	g.log.Info(
		"key catalogue recalled",
		zap.String("hsm", m.Name),
		zap.Int("objects", len(memory.Objects)),
		zap.Time("seen", memory.Seen),
	)
}

// saveParity writes the parity state if it has changed. Only background work calls it.
func (g *Group) saveParity() {
	if !g.store.IsPersistent() {
		return
	}
	g.savingParity.Lock()
	defer g.savingParity.Unlock()
	g.mu.Lock()
	unsaved := g.parity.Unsaved ||
		len(g.parity.WasComplete)+len(g.parity.Diverged) > 0 &&
			g.store.IsMissing(g.store.ParityFile())
	g.parity.Unsaved = false
	memory := catalogue.SavedParity{
		Format: catalogue.ParityFormat,
		Group:  g.config.Name,
		HSMs:   g.parity.NamesOf(g.parity.All()),
	}
	if g.config.KeyVersion != hsm.VersionID4 {
		memory.Rule = g.config.KeyVersion
	}
	if unsaved {
		memory.SetComplete(g.parity.WasComplete)
		memory.Diverged = slices.SortedFunc(
			maps.Values(g.parity.Diverged),
			catalogue.CompareFindings,
		)
	}
	g.mu.Unlock()
	if !unsaved {
		return
	}
	err := g.store.WriteParity(memory)
	if err != nil {
		g.log.Error(
			"cannot save which keys are on every HSM; "+
				"after a restart, a key that one HSM has lost would not encrypt",
			zap.Error(err),
		)
		g.mu.Lock()
		g.parity.Unsaved = true
		g.mu.Unlock()
	}
}

// loadParity reads the saved parity state.
func (g *Group) loadParity() {
	memory, err := g.store.ReadParity()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error(
			"cannot read which keys were on every HSM; a key that one HSM has lost does not "+
				"encrypt until it is back. The file will be rewritten",
			zap.Error(err),
		)
		return
	}
	for _, f := range memory.Diverged {
		g.parity.Diverged[hsm.KeyRef{Label: f.Label, Version: f.Version}] = f
	}
	for _, m := range g.members {
		if !slices.Contains(memory.HSMs, m.Name) {
			return // what was on every HSM before this one joined was never on this one
		}
	}
	if memory.Rule == g.config.KeyVersion ||
		memory.Rule == "" && g.config.KeyVersion == hsm.VersionID4 {
		maps.Copy(g.parity.WasComplete, memory.CompleteVersions())
	}
}
