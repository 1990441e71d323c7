package main

// Where a configuration is from: the main file and the files of its key store
// directory, and the place of each key in them.

import (
	"cmp"
	"strconv"
	"strings"
)

// source is a configuration file and where in it each key stands. The key stores of its
// directory are entries of key_stores after its own.
type source struct {
	file    string            // as it was named
	dir     string            // absolute; relative paths start here
	origins map[string]origin // by path

	ownStores int         // key stores of the main file
	stores    []storeFile // the others, in the order of key_stores
	directory string      // what key_store_directory says, also if there is none
	found     bool        // it is there
}

// storeFile is one file of the key store directory.
type storeFile struct {
	name string // for messages
	dir  string // absolute; relative paths start here
}

const keyStoresKey = "key_stores"

// storeKey is the path of a key store, or of a key of it.
func storeKey(i int, key string) string {
	at := keyStoresKey + "[" + strconv.Itoa(i) + "]"
	if key == "" {
		return at
	}
	return joinPath(at, key)
}

// storeOf is the file of the key store directory that the key at path is in, and its path there; false for a key of the
// main file.
func (s *source) storeOf(path string) (storeFile, string, bool) {
	rest, inStores := strings.CutPrefix(path, keyStoresKey+"[")
	if !inStores || len(s.stores) == 0 {
		return storeFile{}, path, false
	}
	number, key, _ := strings.Cut(rest, "]")
	i, err := strconv.Atoi(number)
	if err != nil || i < s.ownStores || i >= s.ownStores+len(s.stores) {
		return storeFile{}, path, false
	}
	return s.stores[i-s.ownStores], strings.TrimPrefix(key, "."), true
}

// locate is the file that the key at path is in, and its path there.
func (s *source) locate(path string) (string, string) {
	file, key, ok := s.storeOf(path)
	if !ok {
		return s.file, path
	}
	return file.name, key
}

// dirOf is where relative paths of the key at path start.
func (s *source) dirOf(path string) string {
	file, _, ok := s.storeOf(path)
	if !ok {
		return s.dir
	}
	return file.dir
}

// placeIn is FILE:LINE:COLUMN.
func placeIn(file string, at origin) string {
	where := problem{File: file, Origin: at}.String()
	return strings.TrimSuffix(where, ": ")
}

// origin is the place of a key or, if it is not there, of what it would be in.
func (s *source) origin(path string) origin {
	for ; path != ""; path = parentPath(path) {
		at, ok := s.origins[path]
		if ok {
			return at
		}
	}
	return origin{Line: 1, Column: 1}
}

// parentPath goes from a.b[0] to a.b to a to "".
func parentPath(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// compareFiles puts the configuration file before its key stores' and the policy files.
func (s *source) compareFiles(a, b string) int {
	switch {
	case a == b:
		return 0
	case a == s.file:
		return -1
	case b == s.file:
		return 1
	}
	return cmp.Compare(a, b)
}
