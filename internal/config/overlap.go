package config

// Isolation: two key stores of different owners must not reach the same key (U1). Package isolation
// decides exactly whether both reach a common label.

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/isolation"
	"xks-proxy/pkg/xks"
)

// MaxPositions bounds the comparison of the patterns of a configuration, in positions of package
// isolation. That takes about a second.
const MaxPositions = 1_000_000

// Reach is the set of labels that one pattern of a key store matches and that an external key id
// can lead to.
type Reach struct {
	store, index int    // key_stores[store].keys.labels[index]
	owner        int    // number of the owner
	Text         string // the pattern as in the file
	Prefix       string // of every label
	suffix       string // of every label
	Literal      bool   // Prefix is the only label
	Pattern      isolation.Pattern
	Template     isolation.Pattern // keys.label, with any external key id
	Excluded     []string          // labels that the key store does not reach
}

// validateIsolation reports key stores that reach a key of another owner. Groups that share an HSM
// share its keys.
func validateIsolation(r *schema.Report, c *Config) {
	i := &overlapCheck{Report: r, config: c, reported: map[int]bool{}, budget: MaxPositions}
	for _, groups := range groupsTogether(c) {
		reaches := reachesOf(c, groups)
		for first := range reaches {
			i.check(reaches[first:])
		}
	}
}

// overlapCheck is the comparison of all key stores.
type overlapCheck struct {
	*schema.Report
	config   *Config
	reported map[int]bool // key stores: one problem is enough
	budget   int
}

// groupsTogether are, for each HSM, the groups that it is in; each set once.
func groupsTogether(c *Config) [][]string {
	byHSM := map[string][]string{}
	var order []string
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			if byHSM[m.HSM] == nil {
				order = append(order, m.HSM)
			}
			byHSM[m.HSM] = append(byHSM[m.HSM], g.Name)
		}
	}
	seen := map[string]bool{}
	var sets [][]string
	for _, hsm := range order {
		set := strings.Join(byHSM[hsm], "\x00")
		if !seen[set] {
			sets = append(sets, byHSM[hsm])
		}
		seen[set] = true
	}
	return sets
}

// reachesOf are all patterns of the key stores of some groups, by the text that their labels begin
// with.
func reachesOf(c *Config, groups []string) []Reach {
	testKeys := map[string]string{}
	for _, g := range c.HSMGroups {
		testKeys[g.Name] = g.TestKey.Label
	}
	owners := map[string]int{}
	var all []Reach
	for i, k := range c.KeyStores {
		if !slices.Contains(groups, k.HSMGroup) {
			continue
		}
		if _, known := owners[k.Owner]; !known {
			owners[k.Owner] = len(owners)
		}
		for _, one := range ReachOf(k.Keys, testKeys[k.HSMGroup]) {
			one.store, one.owner = i, owners[k.Owner]
			all = append(all, one)
		}
	}
	slices.SortStableFunc(all, func(a, b Reach) int { return cmp.Compare(a.Prefix, b.Prefix) })
	return all
}

// ReachOf returns what each pattern of a key store reaches. It does not reach the test key of its
// group.
func ReachOf(k Keys, testKey string) []Reach {
	before, after, ok := strings.Cut(k.Label, xks.KeyIDPlaceholder)
	if !ok {
		return nil
	}
	template := isolation.Template(before, after)
	excluded := []string{testKey, before + "." + after, before + ".." + after} // U3
	var all []Reach
	for j, text := range k.Labels {
		pattern, good := isolation.Parse(text)
		if !good {
			continue // validateLabels reports it
		}
		one := Reach{index: j, Text: text, Pattern: pattern, Template: template, Excluded: excluded}
		one.Prefix, one.Literal = pattern.Prefix()
		one.suffix = pattern.Suffix()
		if strings.HasSuffix(after, one.suffix) {
			one.suffix = after
		}
		switch {
		case strings.HasPrefix(one.Prefix, before):
			all = append(all, one)
		case !one.Literal && strings.HasPrefix(before, one.Prefix):
			one.Prefix = before
			all = append(all, one)
		}
	}
	return all
}

// check compares the first with those after it that begin alike. Patterns that begin differently do
// not share a label.
func (i *overlapCheck) check(reaches []Reach) {
	first := reaches[0]
	for _, other := range reaches[1:] {
		if !strings.HasPrefix(other.Prefix, first.Prefix) ||
			first.Literal && other.Prefix != first.Prefix {
			return
		}
		a, b := first, other
		if a.store > b.store {
			a, b = b, a
		}
		if a.owner == b.owner || i.reported[b.store] || SurelyApart(a, b) {
			continue
		}
		label, err := SharedLabel(a, b, &i.budget)
		at := schema.StoreKey(b.store, labelsKey(b.index))
		place := i.config.other(b.store, a.store, labelsKey(a.index))
		switch {
		case err != nil:
			i.Errorf(
				at, "has %v to be compared with that of %s, of another owner; use fewer", err,
				place,
			)
		case label != "":
			i.Errorf(at, "reaches the key with the label %q, which %s, of another owner, "+
				"reaches, too; give each owner keys of its own", label, place)
		}
		i.reported[b.store] = err != nil || label != ""
	}
}

// labelsKey is the key of a pattern in its key store.
func labelsKey(index int) string { return "keys.labels[" + strconv.Itoa(index) + "]" }

// SurelyApart reports quickly, for most pairs, that they do not share a label. It may have to
// compare a thousand patterns with ten thousand labels.
func SurelyApart(a, b Reach) bool {
	if !strings.HasSuffix(a.suffix, b.suffix) && !strings.HasSuffix(b.suffix, a.suffix) {
		return true
	}
	if a.Literal {
		a, b = b, a
	}
	if !b.Literal {
		return false
	}
	matched, err := path.Match(a.Text, b.Prefix)
	return err == nil && !matched
}

// SharedLabel returns a label that both reach, or "" if there is none. It takes the positions that
// it looks at from budget, and returns an error if they are too many.
func SharedLabel(a, b Reach, budget *int) (string, error) {
	excluded := slices.Concat(a.Excluded, b.Excluded)
	slices.Sort(excluded)
	label, err := isolation.Common(
		[]isolation.Pattern{a.Pattern, b.Pattern, a.Template, b.Template}, slices.Compact(excluded),
		budget,
	)
	if err != nil {
		return "", err
	}
	// it is the shortest: all others are longer
	if a.KeyIDSize(label) > xks.MaxKeyID || b.KeyIDSize(label) > xks.MaxKeyID {
		return "", nil
	}
	return label, nil
}

// KeyIDSize is the length of the external key id that leads to a label.
func (x Reach) KeyIDSize(label string) int {
	return utf8.RuneCountInString(label) - (len(x.Template) - isolation.KeyIDSteps)
}
