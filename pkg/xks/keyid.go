package xks

// External key ids: their form, and from a label back to one, for operators who look at keys.

import (
	"path"
	"slices"
	"strings"
)

// MaxKeyID is the longest external key id, in bytes (requirement U3).
const MaxKeyID = 128

// KeyIDForm describes external key ids in a message. See IsKeyID.
const KeyIDForm = "1 to 128 letters, digits, dots, dashes and underscores"

// IsKeyID reports whether a text has the form of an external key id: 1 to MaxKeyID letters, digits,
// dashes, dots and underscores (requirement U3). "." and ".." have this form, but never
// arrive: the router treats them as other paths.
func IsKeyID(id string) bool {
	return len(id) >= 1 && len(id) <= MaxKeyID && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
			c != '-' && c != '.' && c != '_'
	})
}

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
	if !ok || !IsKeyID(id) {
		return "", false
	}
	matches := func(pattern string) bool {
		matched, _ := path.Match(pattern, label)
		return matched
	}
	return id, slices.ContainsFunc(c.Labels, matches)
}
