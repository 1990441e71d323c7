package group

// What a group remembers across restarts, and how one group takes the place of another of the same
// name while requests are served: what the old one knows of the keys passes over, and only one of
// the two writes to the state directory.

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// StopSaving ends what the group writes to the state directory. It waits for a write that is under
// way. A group
// whose place another has taken must not overwrite what that one found out.
func (g *Group) StopSaving() { g.store.Pause() }

// TakeOver lets a group that is provisional (GroupConfig.Provisional) remember what it knows, in
// the place of
// its predecessor, which remembers no more.
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

// learnLate takes over what the predecessor has found to differ since this group began, or else it
// would be forgotten, and encrypted under, until the comparison comes round to it here. What has
// been fixed meanwhile passes at the next comparison.
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

// rememberNow writes what is known of a member. A listing may be under way and be overtaken by
// this: the next writes again.
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

// beginWith is what a group knows before it has asked an HSM anything: what its predecessor knows,
// or what
// is in the state directory. The group does not run yet.
//
// An HSM that is away is known as it was last seen, also where there is no state directory. Which
// versions were on every HSM
// counts no more if one has joined, as after a restart (recallParity).
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
			m.trust, m.serial, m.serialKnown = before.trust.Clone(), before.serial, before.serialKnown
		}
		if before != nil && before.Token == m.Token {
			m.trust = before.trust // what one group finds out of it is true for both
			m.admitted.Store(before.admitted.Load())
			m.vetting.Store(before.vetting.Load())
		}
	}
	maps.Copy(g.parity.Diverged, old.parity.Diverged)
	if !joined &&
		g.config.KeyVersion == old.config.KeyVersion { // or the numbers are not those of the same objects
		maps.Copy(g.parity.WasComplete, old.parity.WasComplete)
	}
}

// reread is what a member of the predecessor held, with the versions by this group's rule.
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

// remember writes a member's catalogue. A failure is logged, not fatal: it
// matters only after a restart without that HSM. It reports whether all is well.
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
			"key catalogue not remembered; a restart without this HSM would not know its keys",
			zap.String("hsm", m.Name),
			zap.Error(err),
		)
	}
	return err == nil
}

// recall loads what was remembered of a member.
func (g *Group) loadCatalogue(m *member) {
	memory, err := g.store.ReadCatalogue(m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error("remembered key catalogue not readable; delete the file once the HSM is up",
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

// rememberParity writes what has changed. It is for the background, and one writes at a time.
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
			"not remembered which keys were on every HSM; after a restart one that is lost on an HSM would not encrypt",
			zap.Error(err),
		)
		g.mu.Lock()
		g.parity.Unsaved = true
		g.mu.Unlock()
	}
}

// recallParity loads what was remembered.
func (g *Group) loadParity() {
	memory, err := g.store.ReadParity()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error(
			"what was remembered of the keys' completeness is not readable; a key that an HSM has lost does not encrypt until it is back. The file is written anew",
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
