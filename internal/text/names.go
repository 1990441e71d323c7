package text

// Names: which there can be, and which was probably meant.

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	maxNamesShown = 30 // in a list of known names
	maxCompared   = 80 // bytes of names that are compared letter by letter
)

// NamePattern is the pattern of names of key stores, HSMs and HSM groups.
const NamePattern = `^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`

// NameForm describes such names in a message. See IsName.
const NameForm = "1 to 63 letters, digits, dots, dashes and underscores, beginning with a letter " +
	"or digit"

var namePattern = regexp.MustCompile(NamePattern)

// IsName reports whether a text can be such a name: 1 to 63 letters, digits, dots, dashes and
// underscores, of which the first is a letter or a digit.
func IsName(s string) bool { return namePattern.MatchString(s) }

// Near finds the known name that was probably meant; "" if none is near. Case does not count.
func Near(name string, known []string) string {
	best, bestDistance := "", len(name)/3+2
	for _, k := range known {
		d := editDistance(strings.ToLower(name), strings.ToLower(k))
		if d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// DidYouMean is the end of a sentence about an unknown name: the one that was probably meant, or
// the known ones, of many the first 30.
func DidYouMean(name string, known []string) string {
	if near := Near(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return "there are none"
	}
	shown := known[:min(len(known), maxNamesShown)]
	text := "known: " + strings.Join(shown, ", ")
	if more := len(known) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// editDistance counts the letters to insert, delete, replace, or swap with their neighbour to turn
// a into b.
func editDistance(a, b string) int {
	if len(a) > maxCompared || len(b) > maxCompared {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
