package hsm

// A group's files in the state directory: the last catalogue seen on each HSM, and what is known of
// the parity of its keys (parity_memory.go). A restart while one HSM is away must not begin to
// encrypt under a version that the other never had. No secret is in them: labels, CKA_IDs and
// attributes.

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
	"sync"
	"time"

	"xks-proxy/pkg/durable"
)

// store is a group's part of the state directory. One without a directory keeps nothing.
type store struct {
	directory string // "" for none
	group     string

	mu  sync.Mutex // held while it writes, so that nothing is written once pause has returned
	off bool       // nothing is written now
}

// newStore is for one group; an empty directory keeps nothing.
func newStore(directory, group string) *store { return &store{directory: directory, group: group} }

// keeps reports whether there is a state directory.
func (s *store) keeps() bool { return s.directory != "" }

// pause ends what is written. When it returns, no write is under way.
func (s *store) pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = true
}

// resume undoes pause.
func (s *store) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = false
}

// replace puts v, in JSON, in the place of a file. A store that is paused does nothing.
func (s *store) replace(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off {
		return nil
	}
	return durable.ReplaceFile(path, data)
}

// lost reports whether a file is gone that should be there: somebody emptied the state directory.
func (s *store) lost(file string) bool {
	if !s.keeps() {
		return false
	}
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// unfinished is what the names of this group's files begin with that are not whole yet. They are
// each group's own: groups share the directory.
func (s *store) unfinished() []string {
	return []string{fmt.Sprintf(".catalogue-%s@", url.QueryEscape(s.group)), durable.Unfinished(s.parityFile())}
}

// removeLeftovers deletes what an earlier run began to write and did not finish. The errors are of
// files that cannot be removed.
func (s *store) removeLeftovers() []error {
	if !s.keeps() {
		return nil
	}
	entries, err := os.ReadDir(s.directory)
	if err != nil {
		return nil // the directory is made when it is first needed
	}
	var failed []error
	for _, entry := range entries {
		ours := func(prefix string) bool { return strings.HasPrefix(entry.Name(), prefix) }
		if !slices.ContainsFunc(s.unfinished(), ours) {
			continue
		}
		err := os.Remove(filepath.Join(s.directory, entry.Name()))
		if err != nil {
			failed = append(failed, err)
		}
	}
	return failed
}

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
func memoryFile(stateDirectory, group, name string) string {
	return filepath.Join(stateDirectory, fmt.Sprintf("catalogue-%s@%s.json", url.QueryEscape(group), url.QueryEscape(name)))
}

// memoryFile is the file about one HSM.
func (s *store) memoryFile(name string) string { return memoryFile(s.directory, s.group, name) }

// write replaces what is remembered of an HSM.
func (s *store) write(name, serial string, objects []Object) error {
	return s.replace(s.memoryFile(name), memory{
		Format: memoryFormat, HSM: name, Serial: serial, Seen: time.Now().UTC(), Objects: storeObjects(objects),
	})
}

// read is what is remembered of an HSM; fs.ErrNotExist if nothing is.
func (s *store) read(name string) (*memory, error) {
	if !s.keeps() {
		return nil, fs.ErrNotExist
	}
	path := s.memoryFile(name)
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
	if m.HSM != name {
		return nil, fmt.Errorf("%s: it is about HSM %q", path, m.HSM)
	}
	return &m, nil
}

// objects are those remembered, with the versions by a rule.
func (m *memory) objects(rule VersionRule) map[string][]Object {
	return byLabel(readBy(rule, restoreObjects(m.Objects)))
}

// Remembered reports whether an HSM's keys were seen before, by this or an
// earlier run with the same state directory.
func Remembered(stateDirectory, group, name string) bool {
	if stateDirectory == "" {
		return false
	}
	_, err := os.Stat(memoryFile(stateDirectory, group, name))
	return err == nil
}
