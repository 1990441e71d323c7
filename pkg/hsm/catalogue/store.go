package catalogue

// A group's files in the state directory: the last catalogue of each HSM, and the parity of its
// keys (store_parity.go). They let a proxy that restarts while an HSM is away avoid a version that
// this HSM never had. They hold labels, CKA_IDs and attributes, and no secrets.

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

// Store is a group's part of the state directory. A Store without a directory keeps nothing.
type Store struct {
	directory string // "" for none
	group     string

	mu     sync.Mutex // held while it writes, so that nothing is written once pause has returned
	paused bool       // nothing is written now
}

// NewStore returns the store of one group. With an empty directory it keeps nothing.
func NewStore(directory, group string) *Store { return &Store{directory: directory, group: group} }

// IsPersistent reports whether there is a state directory.
func (s *Store) IsPersistent() bool { return s.directory != "" }

// Pause stops writing. When it returns, no write is in progress.
func (s *Store) Pause() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = true
}

// Resume undoes Pause.
func (s *Store) Resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
}

// replace writes v as JSON into a file, atomically. It does nothing while the store is paused.
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

// IsMissing reports whether a file that should exist is gone, because somebody emptied the
// directory.
func (s *Store) IsMissing(file string) bool {
	if !s.IsPersistent() {
		return false
	}
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}

// unfinished returns the name prefixes of this group's temporary files. Groups share the directory.
func (s *Store) unfinished() []string {
	return []string{
		fmt.Sprintf(".catalogue-%s@", url.QueryEscape(s.group)),
		durable.Unfinished(s.ParityFile()),
	}
}

// RemoveLeftovers deletes temporary files of an earlier run and returns an error for each that it
// cannot delete.
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

// savedCatalogue is the file of one HSM.
type savedCatalogue struct {
	Format  int                `json:"format"` // 1
	HSM     string             `json:"hsm"`
	Serial  string             `json:"serial"`
	Seen    time.Time          `json:"seen"`
	Objects []hsm.StoredObject `json:"objects"`
}

const catalogueFormat = 1

// maxStateFile bounds a file of the state directory, in bytes. 100,000 keys need some 30 MB.
const maxStateFile = 256 << 20

// catalogueFile returns the path of an HSM's file. The names are escaped, so that no two pairs
// share a file and none leaves the directory.
func catalogueFile(stateDirectory, group, name string) string {
	return filepath.Join(
		stateDirectory,
		fmt.Sprintf("catalogue-%s@%s.json", url.QueryEscape(group), url.QueryEscape(name)),
	)
}

// CatalogueFile returns the path of the file of one HSM.
func (s *Store) CatalogueFile(
	name string,
) string {
	return catalogueFile(s.directory, s.group, name)
}

// WriteCatalogue replaces the saved catalogue of an HSM.
func (s *Store) WriteCatalogue(name, serial string, objects []hsm.Object) error {
	return s.replace(s.CatalogueFile(name), savedCatalogue{
		Format: catalogueFormat, HSM: name, Serial: serial, Seen: time.Now().UTC(),
		Objects: hsm.StoreObjects(objects),
	})
}

// ReadCatalogue returns the saved catalogue of an HSM, or fs.ErrNotExist.
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

// ByLabel returns the saved objects with their versions by a rule.
func (m *savedCatalogue) ByLabel(rule hsm.VersionRule) map[string][]hsm.Object {
	return ByLabel(hsm.ReadBy(rule, hsm.RestoreObjects(m.Objects)))
}

// HasSavedCatalogue reports whether this or an earlier run with the same state directory has seen
// an HSM's keys.
func HasSavedCatalogue(stateDirectory, group, name string) bool {
	if stateDirectory == "" {
		return false
	}
	_, err := os.Stat(catalogueFile(stateDirectory, group, name))
	return err == nil
}
