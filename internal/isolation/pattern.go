package isolation

// Patterns on labels in the syntax of path.Match, and templates, in a form in which they can be
// compared.

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// runes is a set of characters: ranges in ascending order, without overlap.
type runes []runeRange

type runeRange struct{ low, high rune }

// The character sets of path.Match, and of an external key id (U3).
var (
	notSlash  = runes{{0, '/' - 1}, {'/' + 1, utf8.MaxRune}}
	keyIDRune = runes{{'-', '.'}, {'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}
)

// labelStep is one character of a label, or any number of them.
type labelStep struct {
	set  runes
	many bool
}

// Pattern is a sequence of steps. A label matches if its characters take all of them in order.
type Pattern []labelStep

// KeyIDSteps is the number of steps of a template that stand for the external key id.
const KeyIDSteps = 2

// Template returns the pattern of any external key id between two texts.
func Template(before, after string) Pattern {
	p := Plain(before)
	p = append(p, labelStep{set: keyIDRune}, labelStep{set: keyIDRune, many: true})
	return append(p, Plain(after)...)
}

// Plain returns the pattern that only one text matches.
func Plain(text string) Pattern {
	p := make(Pattern, 0, len(text))
	for _, c := range text {
		p = append(p, labelStep{set: runes{{c, c}}})
	}
	return p
}

// Parse reads a pattern in the syntax of path.Match. It returns false for any other text.
func Parse(text string) (Pattern, bool) {
	p := make(Pattern, 0, len(text))
	for rest := []rune(text); len(rest) > 0; {
		c := rest[0]
		rest = rest[1:]
		switch c {
		case '*':
			if len(p) == 0 || !p[len(p)-1].many { // ** is *
				p = append(p, labelStep{set: notSlash, many: true})
			}
		case '?':
			p = append(p, labelStep{set: notSlash})
		case '[':
			set, left, ok := parseClass(rest)
			if !ok {
				return nil, false
			}
			p = append(p, labelStep{set: set})
			rest = left
		case '\\':
			if len(rest) == 0 {
				return nil, false
			}
			p = append(p, labelStep{set: runes{{rest[0], rest[0]}}})
			rest = rest[1:]
		default:
			p = append(p, labelStep{set: runes{{c, c}}})
		}
	}
	return p, true
}

// parseClass reads what comes after [. A class may hold a /, other than * and ?.
func parseClass(rest []rune) (runes, []rune, bool) {
	negated := len(rest) > 0 && rest[0] == '^'
	if negated {
		rest = rest[1:]
	}
	var set runes
	for {
		if len(rest) > 0 && rest[0] == ']' && len(set) > 0 {
			break
		}
		low, left, ok := classRune(rest)
		if !ok {
			return nil, nil, false
		}
		high := low
		if len(left) > 0 && left[0] == '-' {
			high, left, ok = classRune(left[1:])
			if !ok {
				return nil, nil, false
			}
		}
		set = append(set, runeRange{low, high})
		rest = left
	}
	empty := func(x runeRange) bool { return x.low > x.high } // [z-a] is allowed
	set = slices.DeleteFunc(set, empty)
	set = set.ordered()
	if negated {
		set = set.others()
	}
	return set, rest[1:], true
}

// classRune is one character of a class, which a backslash makes plain.
func classRune(rest []rune) (rune, []rune, bool) {
	if len(rest) == 0 || rest[0] == '-' || rest[0] == ']' {
		return 0, nil, false
	}
	if rest[0] == '\\' {
		rest = rest[1:]
	}
	if len(rest) < 2 { // the class must end after it
		return 0, nil, false
	}
	return rest[0], rest[1:], true
}

// ordered merges ranges that overlap or touch.
func (s runes) ordered() runes {
	slices.SortFunc(s, func(a, b runeRange) int { return int(a.low) - int(b.low) })
	var merged runes
	for _, r := range s {
		last := len(merged) - 1
		if last >= 0 && r.low <= merged[last].high+1 {
			merged[last].high = max(merged[last].high, r.high)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// others are all characters that s does not hold.
func (s runes) others() runes {
	var rest runes
	next := rune(0)
	for _, r := range s {
		if r.low > next {
			rest = append(rest, runeRange{next, r.low - 1})
		}
		next = r.high + 1
	}
	if next <= utf8.MaxRune {
		rest = append(rest, runeRange{next, utf8.MaxRune})
	}
	return rest
}

// both are the characters of s and t.
func (s runes) both(t runes) runes {
	var common runes
	for i, j := 0, 0; i < len(s) && j < len(t); {
		low, high := max(s[i].low, t[j].low), min(s[i].high, t[j].high)
		if low <= high {
			common = append(common, runeRange{low, high})
		}
		if s[i].high < t[j].high {
			i++
		} else {
			j++
		}
	}
	return common
}

func (s runes) has(c rune) bool {
	return slices.ContainsFunc(s, func(r runeRange) bool { return r.low <= c && c <= r.high })
}

// single is the one character of s.
func (s runes) single() (rune, bool) {
	if len(s) == 1 && s[0].low == s[0].high {
		return s[0].low, true
	}
	return 0, false
}

// Suffix returns the text with which every label that matches ends.
func (p Pattern) Suffix() string {
	var text []rune
	for i := len(p); i > 0; i-- {
		c, one := p[i-1].set.single()
		if !one || p[i-1].many {
			break
		}
		text = append(text, c)
	}
	slices.Reverse(text)
	return string(text)
}

// Prefix returns the text with which every label that matches begins, and whether it is the only
// such label.
func (p Pattern) Prefix() (string, bool) {
	var b strings.Builder
	for _, step := range p {
		c, one := step.set.single()
		if !one || step.many {
			return b.String(), false
		}
		b.WriteRune(c)
	}
	return b.String(), true
}
