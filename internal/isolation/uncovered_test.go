package isolation

// Which patterns are wider than others, against path.Match on all short labels.

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
)

func patternsOf(t *testing.T, texts ...string) []Pattern {
	t.Helper()
	var all []Pattern
	for _, text := range texts {
		p, good := Parse(text)
		if !good {
			t.Fatalf("%q is not a pattern", text)
		}
		all = append(all, p)
	}
	return all
}

func TestUncoveredLabel(t *testing.T) {
	ids := Template("", "")
	for _, test := range []struct {
		pattern  string
		template Pattern
		others   []string
		want     string
	}{
		{"a-*", ids, []string{"*"}, ""},
		{"a-*", ids, []string{"a-*"}, ""},
		{"a-*", ids, []string{"a-?*", "a-"}, ""},
		{"a-*", ids, []string{"a-?*"}, "a-"},
		{"*", ids, []string{"a-*"}, "a"},
		{"a-*", ids, []string{"a-[a-m]*", "a-"}, "a-n"},
		{"a-*", ids, []string{"a-[^q]*", "a-"}, "a-q"},
		{"[ab]-1", ids, []string{"a-1"}, "b-1"},
		{"a", ids, nil, "a"},
		{"é", ids, nil, ""},                            // not an external key id
		{"*", Template("x/", ""), []string{"x/*"}, ""}, // * stops at a /
		{"*/*", Template("x/", ""), []string{"*"}, "x/a"},
		{"p-*", Template("p-", ""), []string{"p-[a-z]*"}, "p-0"},
	} {
		budget := 1_000_000
		got, err := Uncovered(
			patternsOf(t, test.pattern)[0],
			test.template,
			patternsOf(t, test.others...),
			&budget,
		)
		if got != test.want || err != nil || budget >= 1_000_000 {
			t.Errorf(
				"%s beyond %q: %q, %v; want %q",
				test.pattern,
				test.others,
				got,
				err,
				test.want,
			)
		}
	}
}

// A label that is found is one, and where none is found no label of up to five characters is one.
func TestUncoveredLabelIsExact(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a", "b", "-", "*", "?", "[ab]", "[^a]", "b*", "??"}
	pattern := func() string {
		var b strings.Builder
		for range 1 + random.IntN(4) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		return b.String()
	}
	labels := allTexts("ab-z", 5)
	found := 0
	for range 3000 {
		mine := pattern()
		others := []string{pattern(), pattern(), pattern()}[:1+random.IntN(3)]
		budget := 1_000_000
		label, err := Uncovered(
			patternsOf(t, mine)[0],
			Template("", ""),
			patternsOf(t, others...),
			&budget,
		)
		if err != nil {
			t.Fatal(err)
		}
		matches := func(pattern, label string) bool {
			ok, err := path.Match(pattern, label)
			return ok && err == nil
		}
		uncovered := func(label string) bool {
			for _, other := range others {
				if matches(other, label) {
					return false
				}
			}
			return matches(mine, label)
		}
		if label != "" {
			found++
			if !uncovered(label) {
				t.Fatalf("%s beyond %q: %q is not uncovered", mine, others, label)
			}
			continue
		}
		for _, label := range labels {
			if uncovered(label) {
				t.Fatalf("%s beyond %q: %q was not found", mine, others, label)
			}
		}
	}
	if found < 500 || found > 2500 {
		t.Errorf("%d of 3000 found", found)
	}
}

// allTexts are all texts of 1 to longest letters.
func allTexts(letters string, longest int) []string {
	var all []string
	level := []string{""}
	for range longest {
		var next []string
		for _, text := range level {
			for _, c := range letters {
				next = append(next, text+string(c))
			}
		}
		all = append(all, next...)
		level = next
	}
	return all
}

func TestUncoveredLabelIsBounded(t *testing.T) {
	budget := 1000
	long := strings.Repeat("*a", 60)
	_, err := Uncovered(
		patternsOf(t, long)[0],
		Template("", ""),
		patternsOf(t, long+"b", long+"c*", strings.Repeat("*b", 60)),
		&budget,
	)
	if !errors.Is(err, errTooInvolved) {
		t.Errorf("%v, budget %d", err, budget)
	}
}
