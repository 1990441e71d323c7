package isolation

// The shortest label that one pattern matches and several others do not, found by a breadth-first
// search. It follows one way through the steps of the pattern at a time, but all ways through the
// others at once, because none of them may lead to the end.

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// spread is where the other patterns stand: the steps that may come next, in ascending order, each
// as the number of its pattern and of the step. A pattern that cannot match any more has none.
type spread []spreadStep

type spreadStep struct{ pattern, step uint16 }

// key is spread as a key of a map.
func (s spread) key() string {
	b := make([]byte, 0, 4*len(s))
	for _, at := range s {
		b = binary.BigEndian.AppendUint16(b, at.pattern)
		b = binary.BigEndian.AppendUint16(b, at.step)
	}
	return string(b)
}

// standing is how far the label has come in the two patterns that it must match, and in the others.
type standing struct {
	first, second uint16
	others        spread
	from          int // index of the one before; -1 at the beginning
	by            rune
}

// wider is one search.
type wider struct {
	first, second Pattern
	others        []Pattern
	seen          map[wideKey]bool
	queue         []standing
	cost          int
}

type wideKey struct {
	first, second uint16
	others        string
}

// Uncovered returns a label that first and second match and that none of others matches, or "" if
// there is none. It subtracts from budget the positions that it looked at. The error is that they
// were not enough. It is as exact as Common.
func Uncovered(
	first, second Pattern, others []Pattern, budget *int,
) (string, error) {
	if len(others) > math.MaxUint16 { // see spreadStep
		return "", errTooInvolved
	}
	w := wider{first: first, second: second, others: others, seen: map[wideKey]bool{}}
	defer func() { *budget -= w.cost }()
	var start spread
	for i := range others {
		start = w.enter(start, uint16(i), 0)
	}
	w.reach(standing{others: start, from: -1})
	for i := 0; i < len(w.queue); i++ {
		at := w.queue[i]
		if ended(first, at.first) && ended(second, at.second) && !w.covered(at.others) {
			return w.label(i), nil
		}
		w.expand(i)
		if w.cost > *budget {
			return "", errTooInvolved
		}
	}
	return "", nil
}

func (w *wider) reach(s standing) {
	key := wideKey{s.first, s.second, s.others.key()}
	w.cost += 1 + len(s.others)
	if !w.seen[key] {
		w.seen[key] = true
		w.queue = append(w.queue, s)
	}
}

// ended reports whether a label may end at a step.
func ended(p Pattern, step uint16) bool {
	return !slices.ContainsFunc(p[step:], func(s labelStep) bool { return !s.many })
}

// covered reports whether one of the others matches the label.
func (w *wider) covered(s spread) bool {
	return slices.ContainsFunc(s, func(at spreadStep) bool {
		return int(at.step) == len(w.others[at.pattern])
	})
}

// enter adds step to s, and those after it as long as steps may be left out.
func (w *wider) enter(s spread, pattern, step uint16) spread {
	p := w.others[pattern]
	for {
		at := spreadStep{pattern, step}
		if !slices.Contains(s, at) {
			s = append(s, at)
		}
		if int(step) == len(p) || !p[step].many {
			return s
		}
		step++
	}
}

// expand extends the label by one character in all possible ways.
func (w *wider) expand(from int) {
	at := w.queue[from]
	cuts := w.cuts(at.others)
	for _, a := range waysOn(w.first, at.first) {
		for _, b := range waysOn(w.second, at.second) {
			set := w.first[a.step].set.both(w.second[b.step].set)
			for _, c := range set.cutAt(cuts).examples() {
				others := w.follow(at.others, c)
				w.reach(standing{a.next, b.next, others, from, c})
			}
		}
	}
}

// wayOn is a step that takes the next character, and where the pattern stands then.
type wayOn struct{ step, next uint16 }

func waysOn(p Pattern, step uint16) []wayOn {
	var all []wayOn
	for ; int(step) < len(p); step++ {
		if !p[step].many {
			return append(all, wayOn{step, step + 1})
		}
		all = append(all, wayOn{step, step})
	}
	return all
}

// cuts are the characters at which a set of the next steps begins or has ended, in ascending order:
// between two of them all characters lead to the same.
func (w *wider) cuts(s spread) []rune {
	var cuts []rune
	for _, at := range s {
		if int(at.step) == len(w.others[at.pattern]) {
			continue
		}
		for _, r := range w.others[at.pattern][at.step].set {
			cuts = append(cuts, r.low, r.high+1)
		}
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}

// cutAt are the ranges of s, in parts that no cut divides.
func (s runes) cutAt(cuts []rune) runes {
	var parts runes
	for _, r := range s {
		i, found := slices.BinarySearch(cuts, r.low)
		if found {
			i++
		}
		for ; i < len(cuts) && cuts[i] <= r.high; i++ {
			parts = append(parts, runeRange{r.low, cuts[i] - 1})
			r.low = cuts[i]
		}
		parts = append(parts, r)
	}
	return parts
}

// examples are one character of each range, the most readable first.
func (s runes) examples() []rune {
	var all []rune
	for _, one := range s {
		c, _ := readable(runes{one}, nil)
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b rune) int {
		return cmp.Compare(readability(a), readability(b))
	})
	return all
}

func readability(c rune) int {
	return slices.IndexFunc(readableFirst, func(s runes) bool { return s.has(c) })
}

// follow is where the others stand after the character c.
func (w *wider) follow(s spread, c rune) spread {
	var next spread
	for _, at := range s {
		p := w.others[at.pattern]
		switch {
		case int(at.step) == len(p) || !p[at.step].set.has(c):
		case p[at.step].many:
			next = w.enter(next, at.pattern, at.step)
		default:
			next = w.enter(next, at.pattern, at.step+1)
		}
	}
	slices.SortFunc(next, func(a, b spreadStep) int {
		return (int(a.pattern)-int(b.pattern))<<16 + int(a.step) - int(b.step)
	})
	return next
}

func (w *wider) label(i int) string {
	var text []rune
	for ; w.queue[i].from >= 0; i = w.queue[i].from {
		text = append(text, w.queue[i].by)
	}
	slices.Reverse(text)
	return string(text)
}
