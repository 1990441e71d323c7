// Package isolation compares label patterns: whether two reach a common label, and which label one
// reaches that others do not. It knows no configuration.
package isolation

// The shortest label that several patterns have in common, found by a breadth-first search in the
// product of their steps.

import (
	"errors"
	"slices"
	"unicode/utf8"
)

const (
	maxPatterns = 4
	maxExcluded = 8
)

// position is how far each pattern has matched. While the label begins like an excluded one, it
// also says like which, and how long the label is.
type position struct {
	steps  [maxPatterns]uint16
	like   uint8 // bits: excluded labels that begin with this one
	length uint16
}

// walked is a position and how it was reached.
type walked struct {
	position
	from int // index; -1 at the beginning
	by   rune
}

// errTooInvolved says that patterns have so many wildcards that comparing them would take too long.
var errTooInvolved = errors.New("too many wildcards")

// Common returns a label that all patterns match and that is not one of excluded, or "" if there is
// none. It takes 4 patterns and 8 excluded labels at most. It looks at budget positions at most,
// and subtracts from budget those that it looked at. The error is that this was not enough.
//
// It is exact for ASCII. With other characters, path.Match lets * end inside a character, so it
// matches a little more than is found here.
func Common(patterns []Pattern, excluded []string, budget *int) (string, error) {
	p := product{patterns: patterns, seen: map[position]bool{}}
	defer func() { *budget -= len(p.queue) }()
	for _, text := range excluded {
		p.excluded = append(p.excluded, []rune(text))
	}
	start := position{like: uint8(1<<len(excluded) - 1)}
	p.reach(start, -1, 0)
	for i := 0; i < len(p.queue); i++ {
		if p.ends(p.queue[i].position) {
			return p.label(i), nil
		}
		p.expand(i)
		if len(p.queue) > *budget {
			return "", errTooInvolved
		}
	}
	return "", nil
}

type product struct {
	patterns []Pattern
	excluded [][]rune
	seen     map[position]bool
	queue    []walked
}

func (p *product) reach(at position, from int, by rune) {
	if !p.seen[at] {
		p.seen[at] = true
		p.queue = append(p.queue, walked{at, from, by})
	}
}

// ends reports whether all patterns match the label at a position, and it is not excluded.
func (p *product) ends(at position) bool {
	for i, pattern := range p.patterns {
		for _, step := range pattern[at.steps[i]:] {
			if !step.many {
				return false
			}
		}
	}
	for i, text := range p.excluded {
		if at.like&(1<<i) != 0 && len(text) == int(at.length) {
			return false
		}
	}
	return true
}

// expand extends the label by one character in all possible ways.
func (p *product) expand(from int) {
	at := p.queue[from].position
	p.choose(at, position{}, 0, runes{{0, utf8.MaxRune}}, from)
}

// choose chooses the step of pattern i that takes the next character, then those of later patterns.
func (p *product) choose(at, next position, i int, set runes, from int) {
	if len(set) == 0 {
		return
	}
	if i == len(p.patterns) {
		p.take(at, next, set, from)
		return
	}
	pattern := p.patterns[i]
	for s := int(at.steps[i]); s < len(pattern); s++ {
		next.steps[i] = uint16(s)
		if !pattern[s].many {
			next.steps[i]++
		}
		p.choose(at, next, i+1, set.both(pattern[s].set), from)
		if !pattern[s].many {
			return
		}
	}
}

// take adds the characters of set that lead to different positions: those with which excluded
// labels continue, and one other.
func (p *product) take(at, next position, set runes, from int) {
	var special []rune
	for i, text := range p.excluded {
		if at.like&(1<<i) != 0 && len(text) > int(at.length) {
			special = append(special, text[at.length])
		}
	}
	slices.Sort(special)
	special = slices.Compact(special)
	if c, ok := readable(set, special); ok {
		next.like, next.length = 0, 0
		p.reach(next, from, c)
	}
	for _, c := range special {
		if set.has(c) {
			next.like, next.length = p.stillLike(at, c), at.length+1
			p.reach(next, from, c)
		}
	}
}

func (p *product) stillLike(at position, c rune) uint8 {
	var like uint8
	for i, text := range p.excluded {
		if at.like&(1<<i) != 0 && len(text) > int(at.length) && text[at.length] == c {
			like |= 1 << i
		}
	}
	return like
}

// readableFirst has the characters in the order in which examples prefer them.
var readableFirst = []runes{
	{{'a', 'z'}}, {{'0', '9'}}, {{'A', 'Z'}}, {{' ', '~'}}, {{0, utf8.MaxRune}},
}

// readable returns a character of set that is not one of excluded, a letter or digit if possible.
func readable(set runes, excluded []rune) (rune, bool) {
	for _, wish := range readableFirst {
		for _, r := range set.both(wish) {
			for c := r.low; c <= r.high; c++ {
				if !slices.Contains(excluded, c) {
					return c, true
				}
			}
		}
	}
	return 0, false
}

func (p *product) label(i int) string {
	var text []rune
	for ; p.queue[i].from >= 0; i = p.queue[i].from {
		text = append(text, p.queue[i].by)
	}
	slices.Reverse(text)
	return string(text)
}
