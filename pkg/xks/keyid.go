package xks

// The way back from a label to the external key id, for operators who look at keys.

import (
	"path"
	"slices"
	"strings"
)

// KeyID is the external key id under which the key store reaches a label; false if it
// does not. That the test key of the group is not reached is for the caller to know.
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
