// Package isolation compares label patterns: whether two reach a common label, and which label one
// reaches that others do not. It knows no configuration.
package isolation

// A label that several patterns have in common: the shortest, found breadth first in the product of
// their steps.

import (
	"errors"
	"slices"
	"unicode/utf8"
)

const (
	maxPatterns = 4
	maxExcluded = 8
)

// position is how far each pattern has come. While the label begins like an excluded one it matters
// which, hence
// how long it is.
type position struct {
	steps  [maxPatterns]uint16
	like   uint8 // bits: excluded labels that begin with this one
	length uint16
}

// walked is a position and how it was come to.
type walked struct {
	position
	from int // index; -1 at the beginning
	by   rune
}

// errTooInvolved says that patterns have so many wildcards that comparing them would take too long.
var errTooInvolved = errors.New("too many wildcards")

// Common finds a label that all patterns match and that is none of excluded; "" if there is none.
// At most maxPatterns and maxExcluded of them. It looks at budget positions at most, and takes from
// it what it has looked
// at; errTooInvolved if that is not enough.
//
// It is exact for ASCII. With other characters path.Match lets * end inside of one, so that it
// matches a little more
// than is found here.
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

// ends tells whether the label is complete for all patterns, and not excluded.
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

// expand goes one character further in all ways there are.
func (p *product) expand(from int) {
	at := p.queue[from].position
	p.choose(at, position{}, 0, runes{{0, utf8.MaxRune}}, from)
}

// choose picks for pattern i the step that takes the next character, then for those after it.
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

// take adds the characters of set that differ in what the label still is like: those that excluded
// labels go on
// with, and one other.
func (p *product) take(at, next position, set runes, from int) {
	var told []rune
	for i, text := range p.excluded {
		if at.like&(1<<i) != 0 && len(text) > int(at.length) {
			told = append(told, text[at.length])
		}
	}
	slices.Sort(told)
	told = slices.Compact(told)
	if c, ok := readable(set, told); ok {
		next.like, next.length = 0, 0
		p.reach(next, from, c)
	}
	for _, c := range told {
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

// readableFirst are the characters in the order in which examples prefer them.
var readableFirst = []runes{
	{{'a', 'z'}}, {{'0', '9'}}, {{'A', 'Z'}}, {{' ', '~'}}, {{0, utf8.MaxRune}},
}

// readable is a character of set that is none of told: a letter or digit if there is one.
func readable(set runes, told []rune) (rune, bool) {
	for _, wish := range readableFirst {
		for _, r := range set.both(wish) {
			for c := r.low; c <= r.high; c++ {
				if !slices.Contains(told, c) {
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
