package catalogue

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
	"xks-proxy/pkg/hsm"
)

// Store is a group's part of the state directory. One without a directory keeps nothing.
type Store struct {
	directory string // "" for none
	group     string

	mu     sync.Mutex // held while it writes, so that nothing is written once pause has returned
	paused bool       // nothing is written now
}

// NewStore is for one group; an empty directory keeps nothing.
func NewStore(directory, group string) *Store { return &Store{directory: directory, group: group} }

// Keeps reports whether there is a state directory.
func (s *Store) IsPersistent() bool { return s.directory != "" }

// Pause ends what is written. When it returns, no write is under way.
func (s *Store) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
}

// Resume undoes pause.
func (s *Store) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
}

// replace puts v, in JSON, in the place of a file. A store that is paused does nothing.
func (s *Store) replace(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused {
		return nil
	}
	return durable.ReplaceFile(path, data)
}

// Lost reports whether a file is gone that should be there: somebody emptied the state directory.
func (s *Store) IsMissing(file string) bool {
	if !s.IsPersistent() {
		return false
	}
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// unfinished is what the names of this group's files begin with that are not whole yet. They are
// each group's own: groups share the directory.
func (s *Store) unfinished() []string {
	return []string{
		fmt.Sprintf(".catalogue-%s@", url.QueryEscape(s.group)),
		durable.Unfinished(s.ParityFile()),
	}
}

// RemoveLeftovers deletes what an earlier run began to write and did not finish. The errors are of
// files that cannot be removed.
func (s *Store) RemoveLeftovers() []error {
	if !s.IsPersistent() {
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
type savedCatalogue struct {
	Format  int                `json:"format"` // 1
	HSM     string             `json:"hsm"`
	Serial  string             `json:"serial"`
	Seen    time.Time          `json:"seen"`
	Objects []hsm.StoredObject `json:"objects"`
}

const catalogueFormat = 1

// maxMemoryFile bounds a file of the state directory, in bytes; the catalogue of 100,000 keys has
// some 30 MB.
const maxStateFile = 256 << 20

// memoryFile escapes the names, so that no two pairs of them share a file and
// none leads out of the directory.
func catalogueFile(stateDirectory, group, name string) string {
	return filepath.Join(
		stateDirectory,
		fmt.Sprintf("catalogue-%s@%s.json", url.QueryEscape(group), url.QueryEscape(name)),
	)
}

// MemoryFile is the file about one HSM.
func (s *Store) CatalogueFile(
	name string,
) string {
	return catalogueFile(s.directory, s.group, name)
}

// Write replaces what is remembered of an HSM.
func (s *Store) WriteCatalogue(name, serial string, objects []hsm.Object) error {
	return s.replace(s.CatalogueFile(name), savedCatalogue{
		Format: catalogueFormat, HSM: name, Serial: serial, Seen: time.Now().UTC(), Objects: hsm.StoreObjects(objects),
	})
}

// Read is what is remembered of an HSM; fs.ErrNotExist if nothing is.
func (s *Store) ReadCatalogue(name string) (*savedCatalogue, error) {
	if !s.IsPersistent() {
		return nil, fs.ErrNotExist
	}
	path := s.CatalogueFile(name)
	data, err := durable.ReadFile(path, maxStateFile)
	if err != nil {
		return nil, err
	}
	var m savedCatalogue
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != catalogueFormat {
		return nil, fmt.Errorf("%s: format %d is not known to this version", path, m.Format)
	}
	if m.HSM != name {
		return nil, fmt.Errorf("%s: it is about HSM %q", path, m.HSM)
	}
	return &m, nil
}

// ByRule are those remembered, with the versions by a rule.
func (m *savedCatalogue) ByLabel(rule hsm.VersionRule) map[string][]hsm.Object {
	return ByLabel(hsm.ReadBy(rule, hsm.RestoreObjects(m.Objects)))
}

// HasSavedCatalogue reports whether an HSM's keys were seen before, by this or an
// earlier run with the same state directory.
func HasSavedCatalogue(stateDirectory, group, name string) bool {
	if stateDirectory == "" {
		return false
	}
	_, err := os.Stat(catalogueFile(stateDirectory, group, name))
	return err == nil
}
