package schema

// The files of a configuration: the main file and those of its key store directory, and the place
// of each key in them.

import (
	"cmp"
	"path/filepath"
	"strconv"
	"strings"
)

// Source is a configuration file and where in it each key stands. The key stores of its
// directory are entries of key_stores after its own.
type Source struct {
	File    string            // as it was named
	Dir     string            // absolute; relative paths start here
	Origins map[string]Origin // by path

	OwnStores int         // key stores of the main file
	Stores    []StoreFile // the others, in the order of key_stores
	Directory string      // key_store_directory, also if it does not exist
	Found     bool        // Directory exists
}

// StoreFile is one file of the key store directory.
type StoreFile struct {
	Name string // for messages
	Dir  string // absolute; relative paths start here
}

// KeyStoresKey is the key of the list of key stores.
const KeyStoresKey = "key_stores"

// StoreKey is the path of a key store, or of a key of it.
func StoreKey(i int, key string) string {
	at := KeyStoresKey + "[" + strconv.Itoa(i) + "]"
	if key == "" {
		return at
	}
	return JoinPath(at, key)
}

// StoreOf returns the file of the key store directory that contains the key at path, and the path
// in that file. It returns false for a key of the main file.
func (s *Source) StoreOf(path string) (StoreFile, string, bool) {
	rest, inStores := strings.CutPrefix(path, KeyStoresKey+"[")
	if !inStores || len(s.Stores) == 0 {
		return StoreFile{}, path, false
	}
	number, key, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(number)
	if err != nil || i < s.OwnStores || i >= s.OwnStores+len(s.Stores) {
		return StoreFile{}, path, false
	}
	return s.Stores[i-s.OwnStores], strings.TrimPrefix(key, "."), true
}

// Locate returns the file that contains the key at path, and the path in that file.
func (s *Source) Locate(path string) (string, string) {
	file, key, ok := s.StoreOf(path)
	if !ok {
		return s.File, path
	}
	return file.Name, key
}

// DirOf returns the directory at which relative paths in the key at path start.
func (s *Source) DirOf(path string) string {
	file, _, ok := s.StoreOf(path)
	if !ok {
		return s.Dir
	}
	return file.Dir
}

// PlaceIn returns FILE:LINE:COLUMN.
func PlaceIn(file string, at Origin) string {
	where := Problem{File: file, Origin: at}.String()
	return strings.TrimSuffix(where, ": ")
}

// Origin returns the place of a key or, if it is not given, of the section that would contain it.
func (s *Source) Origin(path string) Origin {
	for ; path != ""; path = ParentPath(path) {
		at, ok := s.Origins[path]
		if ok {
			return at
		}
	}
	return Origin{Line: 1, Column: 1}
}

// ParentPath returns the path without its last part: a.b[0], a.b, a, "".
func ParentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// compareFiles puts the configuration file before its key stores' and the policy files.
func (s *Source) compareFiles(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == s.File:
		return -1
	case b == s.File:
		return 1
	}
	return cmp.Compare(a, b)
}

// ShownDirectory returns the path of the directory for messages: relative, if the main file was
// named by a relative path.
func (s *Source) ShownDirectory() string {
	below, err := filepath.Rel(s.Dir, s.Directory)
	if err != nil || strings.HasPrefix(below, "..") {
		return s.Directory
	}
	return filepath.Join(filepath.Dir(s.File), below)
}
