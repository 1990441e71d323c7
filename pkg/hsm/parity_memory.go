package hsm

// What is remembered across restarts of the parity of a group's keys: which versions were
// once on every HSM, so that a lost one is told from one that never was
// complete, and which are known to differ in their material, so that a restart
// does not encrypt under them until the comparison comes round again.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"go.uber.org/zap"

	"xks-proxy/pkg/durable"
)

// parityMemory is a group's file in the state directory. It holds labels and numbers, no secret.
type parityMemory struct {
	Format   int                 `json:"format"` // 1
	Group    string              `json:"group"`
	HSMs     []string            `json:"hsms"`                 // of which Complete speaks
	Rule     VersionRule         `json:"keyVersion,omitempty"` // by which the versions are numbered; "": id4
	Complete map[string][]uint32 `json:"complete"`             // label -> versions that were on each of them at once
	Diverged []Finding           `json:"diverged,omitempty"`

	CompleteBytes []completeLabel `json:"completeBytes,omitempty"` // as Complete, of labels that are not UTF-8
}

// completeLabel is one label whose bytes JSON has no text for.
type completeLabel struct {
	Label    []byte   `json:"label"`
	Versions []uint32 `json:"versions"`
}

// setComplete keeps labels byte for byte.
func (m *parityMemory) setComplete(once map[string][]uint32) {
	m.Complete = maps.Clone(once)
	for label, versions := range once {
		if !utf8.ValidString(label) {
			delete(m.Complete, label)
			m.CompleteBytes = append(m.CompleteBytes, completeLabel{[]byte(label), versions})
		}
	}
}

// complete is what setComplete was given.
func (m *parityMemory) complete() map[string][]uint32 {
	once := maps.Clone(m.Complete)
	for _, c := range m.CompleteBytes {
		if once == nil {
			once = map[string][]uint32{}
		}
		once[string(c.Label)] = c.Versions
	}
	return once
}

const parityFormat = 1

func (g *Group) parityFile() string {
	return filepath.Join(g.config.StateDirectory, fmt.Sprintf("complete-%s.json", url.QueryEscape(g.config.Name)))
}

// rememberParity writes what has changed. It is for the background, and one writes at a time.
func (g *Group) rememberParity() {
	if g.config.StateDirectory == "" {
		return
	}
	g.parityWriting.Lock()
	defer g.parityWriting.Unlock()
	g.mu.Lock()
	unsaved := g.parity.unsaved || len(g.parity.once)+len(g.parity.diverged) > 0 && g.forgotten(g.parityFile())
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
	data, err := json.Marshal(memory)
	if err == nil {
		err = g.replaceFile(g.parityFile(), data)
	}
	if err != nil {
		g.log.Error("not remembered which keys were on every HSM; after a restart one that is lost on an HSM would not encrypt", zap.Error(err))
		g.mu.Lock()
		g.parity.unsaved = true
		g.mu.Unlock()
	}
}

// recallParity loads what was remembered.
func (g *Group) recallParity() {
	if g.config.StateDirectory == "" {
		return
	}
	memory, err := readParity(g.parityFile(), g.config.Name)
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

func readParity(path, group string) (*parityMemory, error) {
	data, err := durable.ReadFile(path, maxMemoryFile)
	if err != nil {
		return nil, err
	}
	var m parityMemory
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != parityFormat {
		return nil, fmt.Errorf("%s: format %d is not known to this version", path, m.Format)
	}
	if m.Group != group {
		return nil, fmt.Errorf("%s: it is about group %q", path, m.Group)
	}
	return &m, nil
}
