package xks

// From a label back to the external key id, for operators who look at keys.

import (
	"path"
	"slices"
	"strings"
)

// KeyID returns the external key id under which the key store reaches a label, and false if it does
// not reach it. The caller excludes the group's test key.
func (c KeyStoreConfig) KeyID(label string) (string, bool) {
	setDefault(&c.Label, KeyIDPlaceholder)
	before, after, _ := strings.Cut(c.Label, KeyIDPlaceholder)
	rest, ok := strings.CutPrefix(label, before)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(rest, after)
	if !ok || !validKeyID(id) {
		return "", false
	}
	matches := func(pattern string) bool {
		matched, _ := path.Match(pattern, label)
		return matched
	}
	return id, slices.ContainsFunc(c.Labels, matches)
}
