package hsm

// What a group remembers across restarts, and when it writes that.

import (
	"errors"
	"io/fs"
	"maps"
	"slices"

	"go.uber.org/zap"
)

// remember writes a member's catalogue. A failure is logged, not fatal: it
// matters only after a restart without that HSM. It reports whether all is well.
func (g *Group) remember(m *member, objects []Object) bool {
	if !g.store.keeps() {
		return true
	}
	if m.trust.limited.Load() {
		return false // what was known before stays until all was compared: a restart begins there
	}
	err := g.store.write(m.Name, m.Token.Info().Serial, objects)
	if err != nil {
		g.log.Error("key catalogue not remembered; a restart without this HSM would not know its keys",
			zap.String("hsm", m.Name), zap.Error(err))
	}
	return err == nil
}

// recall loads what was remembered of a member.
func (g *Group) recall(m *member) {
	memory, err := g.store.read(m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error("remembered key catalogue not readable; delete the file once the HSM is up",
			zap.String("hsm", m.Name), zap.Error(err))
		return
	}
	m.objects = memory.objects(g.config.KeyVersion)
	m.serial, m.known, g.established = memory.Serial, true, true
	g.log.Info("key catalogue recalled", zap.String("hsm", m.Name), zap.Int("objects", len(memory.Objects)), zap.Time("seen", memory.Seen))
}

// rememberParity writes what has changed. It is for the background, and one writes at a time.
func (g *Group) rememberParity() {
	if !g.store.keeps() {
		return
	}
	g.parityWriting.Lock()
	defer g.parityWriting.Unlock()
	g.mu.Lock()
	unsaved := g.parity.unsaved || len(g.parity.once)+len(g.parity.diverged) > 0 && g.store.lost(g.store.parityFile())
	g.parity.unsaved = false
	memory := parityMemory{Format: parityFormat, Group: g.config.Name, HSMs: g.parity.namesOf(g.parity.everyone())}
	if g.config.KeyVersion != VersionID4 {
		memory.Rule = g.config.KeyVersion
	}
	if unsaved {
		memory.setComplete(g.parity.once)
		memory.Diverged = slices.SortedFunc(maps.Values(g.parity.diverged), byPlace)
	}
	g.mu.Unlock()
	if !unsaved {
		return
	}
	err := g.store.writeParity(memory)
	if err != nil {
		g.log.Error("not remembered which keys were on every HSM; after a restart one that is lost on an HSM would not encrypt", zap.Error(err))
		g.mu.Lock()
		g.parity.unsaved = true
		g.mu.Unlock()
	}
}

// recallParity loads what was remembered.
func (g *Group) recallParity() {
	memory, err := g.store.readParity()
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error("what was remembered of the keys' completeness is not readable; a key that an HSM has lost does not encrypt until it is back. The file is written anew", zap.Error(err))
		return
	}
	for _, f := range memory.Diverged {
		g.parity.diverged[KeyRef{Label: f.Label, Version: f.Version}] = f
	}
	for _, m := range g.members {
		if !slices.Contains(memory.HSMs, m.Name) {
			return // what was on every HSM before this one joined was never on this one
		}
	}
	if memory.Rule == g.config.KeyVersion || memory.Rule == "" && g.config.KeyVersion == VersionID4 {
		maps.Copy(g.parity.once, memory.complete())
	}
}
