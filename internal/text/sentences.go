package text

// Sentences and lists within them.

import (
	"fmt"
	"strings"
)

// Sentence ends s with a full stop, unless it ends like a sentence already.
func Sentence(s string) string {
	if strings.HasSuffix(s, ".") || strings.HasSuffix(s, "?") || strings.HasSuffix(s, "!") {
		return s
	}
	return s + "."
}

// Some lists the first shown of items: "a, b and 3 more".
func Some(items []string, shown int) string {
	list := strings.Join(items[:min(len(items), shown)], ", ")
	if more := len(items) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}
