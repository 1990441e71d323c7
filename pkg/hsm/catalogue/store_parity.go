package catalogue

// The saved parity of a group's keys: the versions that were on every HSM, which tells a lost
// version from one that was never complete, and the versions whose material differs, which must not
// be encrypted under after a restart.

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"unicode/utf8"

	"xks-proxy/pkg/durable"
	"xks-proxy/pkg/hsm"
)

// SavedParity is a group's file in the state directory. It holds labels and numbers, and no
// secrets.
type SavedParity struct {
	Format   int                 `json:"format"` // 1
	Group    string              `json:"group"`
	HSMs     []string            `json:"hsms"`                 // of which Complete speaks
	Rule     hsm.VersionRule     `json:"keyVersion,omitempty"` // of the version numbers; "" is id4
	Complete map[string][]uint32 `json:"complete"`             // versions on all of HSMs, by label
	Diverged []Finding           `json:"diverged,omitempty"`

	CompleteBytes []completeLabel `json:"completeBytes,omitempty"` // labels not UTF-8
}

// completeLabel is a label that is not UTF-8 and has no text in JSON.
type completeLabel struct {
	Label    []byte   `json:"label"`
	Versions []uint32 `json:"versions"`
}

// SetComplete stores the complete versions of each label, labels byte for byte.
func (m *SavedParity) SetComplete(once map[string][]uint32) {
	m.Complete = maps.Clone(once)
	for label, versions := range once {
		if !utf8.ValidString(label) {
			delete(m.Complete, label)
			m.CompleteBytes = append(m.CompleteBytes, completeLabel{[]byte(label), versions})
		}
	}
}

// CompleteVersions returns what SetComplete stored.
func (m *SavedParity) CompleteVersions() map[string][]uint32 {
	once := maps.Clone(m.Complete)
	for _, c := range m.CompleteBytes {
		if once == nil {
			once = map[string][]uint32{}
		}
		once[string(c.Label)] = c.Versions
	}
	return once
}

const ParityFormat = 1

// ParityFile returns the path of the group's parity file.
func (s *Store) ParityFile() string {
	return filepath.Join(s.directory, fmt.Sprintf("complete-%s.json", url.QueryEscape(s.group)))
}

// WriteParity replaces the saved parity of the group.
func (s *Store) WriteParity(m SavedParity) error { return s.replace(s.ParityFile(), m) }

// ReadParity returns the saved parity of the group, or fs.ErrNotExist.
func (s *Store) ReadParity() (*SavedParity, error) {
	if !s.IsPersistent() {
		return nil, fs.ErrNotExist
	}
	path := s.ParityFile()
	data, err := durable.ReadFile(path, maxStateFile)
	if err != nil {
		return nil, err
	}
	var m SavedParity
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if m.Format != ParityFormat {
		return nil, fmt.Errorf("%s: format %d is not known to this version", path, m.Format)
	}
	if m.Group != s.group {
		return nil, fmt.Errorf("%s: it is about group %q", path, m.Group)
	}
	return &m, nil
}
