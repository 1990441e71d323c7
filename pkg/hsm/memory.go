package hsm

// What is remembered across restarts: the last catalogue seen on each HSM. A
// restart while one HSM is away must not begin to encrypt under a version that
// the other never had. No secret is in it: labels, CKA_IDs and attributes.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/durable"
)

// memory is one HSM's file in the state directory.
type memory struct {
	Format  int            `json:"format"` // 1
	HSM     string         `json:"hsm"`
	Serial  string         `json:"serial"`
	Seen    time.Time      `json:"seen"`
	Objects []storedObject `json:"objects"`
}

const memoryFormat = 1

// maxMemoryFile bounds a file of the state directory, in bytes; the catalogue of 100,000 keys has some 30 MB.
const maxMemoryFile = 256 << 20

// memoryFile escapes the names, so that no two pairs of them share a file and
// none leads out of the directory.
func memoryFile(stateDirectory, group, hsm string) string {
	return filepath.Join(stateDirectory, fmt.Sprintf("catalogue-%s@%s.json", url.QueryEscape(group), url.QueryEscape(hsm)))
}

func (g *Group) memoryFile(m *member) string {
	return memoryFile(g.config.StateDirectory, g.config.Name, m.Name)
}

// remember writes a member's catalogue. A failure is logged, not fatal: it
// matters only after a restart without that HSM. It reports whether all is well.
func (g *Group) remember(m *member, objects []Object) bool {
	if g.config.StateDirectory == "" {
		return true
	}
	if m.trust.limited.Load() {
		return false // what was known before stays until all was compared: a restart begins there
	}
	err := g.writeMemory(m, objects)
	if err != nil {
		g.log.Error("key catalogue not remembered; a restart without this HSM would not know its keys",
			zap.String("hsm", m.Name), zap.Error(err))
	}
	return err == nil
}

func (g *Group) writeMemory(m *member, objects []Object) error {
	data, err := json.Marshal(memory{Format: memoryFormat, HSM: m.Name, Serial: m.Token.Info().Serial, Seen: time.Now().UTC(), Objects: storeObjects(objects)})
	if err != nil {
		return err
	}
	return g.replaceFile(g.memoryFile(m), data)
}

// replaceFile puts data in the place of a file of the state directory. A group that does not remember does nothing.
func (g *Group) replaceFile(path string, data []byte) error {
	g.saving.mu.Lock()
	defer g.saving.mu.Unlock()
	if g.saving.off {
		return nil
	}
	return durable.ReplaceFile(path, data)
}

// unfinished is what the names of this group's files begin with that are not whole yet. They are each group's own: groups
// share the directory.
func (g *Group) unfinished() []string {
	return []string{fmt.Sprintf(".catalogue-%s@", url.QueryEscape(g.config.Name)), durable.Unfinished(g.parityFile())}
}

// removeLeftovers deletes what an earlier run began to write and did not finish.
func (g *Group) removeLeftovers() {
	if g.config.StateDirectory == "" {
		return
	}
	entries, err := os.ReadDir(g.config.StateDirectory)
	if err != nil {
		return // the directory is made when it is first needed
	}
	for _, entry := range entries {
		ours := func(prefix string) bool { return strings.HasPrefix(entry.Name(), prefix) }
		if !slices.ContainsFunc(g.unfinished(), ours) {
			continue
		}
		err := os.Remove(filepath.Join(g.config.StateDirectory, entry.Name()))
		if err != nil {
			g.log.Warn("an unfinished file in the state directory cannot be removed", zap.Error(err))
		}
	}
}

// forgotten reports whether a file is gone that should be there: somebody emptied the state directory.
func (g *Group) forgotten(file string) bool {
	if g.config.StateDirectory == "" {
		return false
	}
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// recall loads what was remembered of a member.
func (g *Group) recall(m *member) {
	if g.config.StateDirectory == "" {
		return
	}
	memory, err := readMemory(g.memoryFile(m), m.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		g.log.Error("remembered key catalogue not readable; delete the file once the HSM is up",
			zap.String("hsm", m.Name), zap.Error(err))
		return
	}
	m.objects = byLabel(readBy(g.config.KeyVersion, restoreObjects(memory.Objects)))
	m.serial, m.known, g.established = memory.Serial, true, true
	g.log.Info("key catalogue recalled", zap.String("hsm", m.Name), zap.Int("objects", len(memory.Objects)), zap.Time("seen", memory.Seen))
}

func readMemory(path, hsm string) (*memory, error) {
	data, err := durable.ReadFile(path, maxMemoryFile)
	if err != nil {
		return nil, err
	}
	var m memory
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != memoryFormat {
		return nil, fmt.Errorf("%s: format %d is not known to this version", path, m.Format)
	}
	if m.HSM != hsm {
		return nil, fmt.Errorf("%s: it is about HSM %q", path, m.HSM)
	}
	return &m, nil
}

// Remembered reports whether an HSM's keys were seen before, by this or an
// earlier run with the same state directory.
func Remembered(stateDirectory, group, hsm string) bool {
	if stateDirectory == "" {
		return false
	}
	_, err := os.Stat(memoryFile(stateDirectory, group, hsm))
	return err == nil
}
