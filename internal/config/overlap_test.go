package config

// Isolation of owners: which patterns have a label in common, decided exactly (against path.Match
// itself), and what the configuration says about it.

import (
	"fmt"
	"path"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/isolation"
	"xks-proxy/pkg/xks"
)

// pair is two key stores of different owners.
type storePair struct{ pattern, label, otherPattern, otherLabel string }

func (p storePair) config() *Config {
	return &Config{
		Source: &schema.Source{
			File: "test.yaml", Origins: map[string]schema.Origin{}, OwnStores: 2,
		},
		HSMGroups: []Group{
			{
				Name:    "main",
				TestKey: TestKey{Label: "ab"},
				HSMs:    []GroupMember{{HSM: "hsm-a"}, {HSM: "hsm-b"}},
			},
		},
		KeyStores: []KeyStore{
			{
				Name:     "tax",
				Owner:    "tax",
				HSMGroup: "main",
				Keys:     Keys{Labels: []string{p.pattern}, Label: p.label},
			},
			{
				Name:     "payroll",
				Owner:    "payroll",
				HSMGroup: "main",
				Keys:     Keys{Labels: []string{p.otherPattern}, Label: p.otherLabel},
			},
		},
	}
}

// shared is the label that validateIsolation gives as an example.
func (p storePair) shared(t *testing.T) (string, bool) {
	t.Helper()
	r := schema.NewReport(p.config().Source)
	validateIsolation(r, p.config())
	if len(r.Problems) == 0 {
		return "", false
	}
	_, after, _ := strings.Cut(r.Problems[0].Message, "the label ")
	var label string
	_, err := fmt.Sscanf(after, "%q", &label)
	if err != nil {
		t.Fatal(r.Problems[0].Message, err)
	}
	return label, true
}

// reaches is what pkg/xks does with a request.
func reaches(pattern, template, label string) bool {
	before, after, _ := strings.Cut(template, xks.KeyIDPlaceholder)
	id, begins := strings.CutPrefix(label, before)
	id, ends := strings.CutSuffix(id, after)
	if !begins || !ends || !xks.IsKeyID(id) || id == "." || id == ".." || label == "ab" {
		return false
	}
	matched, err := path.Match(pattern, label)
	return err == nil && matched
}

func TestSharedLabels(t *testing.T) {
	const id = "{key_id}"
	for _, test := range []struct {
		storePair
		want string // an example; "" is none
	}{
		{storePair{"*", id, "*", id}, "b"},
		{storePair{"tax", id, "tax", id}, "tax"},
		{storePair{"tax", id, "payroll", id}, ""},
		{storePair{"tax-*", id, "payroll-*", id}, ""},
		{storePair{"tax-*", id, "*-tax", id}, "tax-tax"},
		{storePair{"tax-*", id, "tax", id}, ""},
		{storePair{"tax-*", id, "tax-1", id}, "tax-1"},
		{storePair{"tax-?", id, "tax-??", id}, ""},
		{storePair{"[a-m]*", id, "[n-z]*", id}, ""},
		{storePair{"[a-m]*", id, "[^n-z]*", id}, "b"},
		{storePair{"[a-m]?*", id, "?[k-z]", id}, "bk"},
		{storePair{"[b-a]", id, "*", id}, ""},
		{storePair{`\[a]`, "[" + id, `[[]a]`, "[" + id}, ""}, // an id holds no ]
		{storePair{`\[a\]`, "[" + id + "]", `[[]a]`, "[" + id + "]"}, "[a]"},
		{storePair{"*", "tax-" + id, "*", "payroll-" + id}, ""},
		{storePair{"*", "tax-" + id, "*", id}, "tax-b"},
		{storePair{"*", "tax-" + id, "*", id + "-1"}, "tax-1"},
		{storePair{"*", "tax/" + id, "*", "tax/" + id}, ""}, // * stops at a /
		{storePair{"*/*", "tax/" + id, "tax/*", "tax/" + id}, "tax/b"},
		{storePair{"tax[^a]*", "tax/" + id, "tax/*", "tax/" + id}, "tax/b"}, // a class does not
		{storePair{"ab", id, "ab", id}, ""},                                 // the test key
		{storePair{"a?", id, "[a-b]b", id}, ""},                             // the test key again
		{storePair{"?", "a" + id, ".", id}, ""},
		{storePair{".", id, "?", id}, ""}, // an id is never a lone dot (U3)
		{storePair{"a.", "a" + id, "a?", id}, ""},
		{storePair{"ä-*", "ä-" + id, "ä-*", "ä-" + id}, "ä-b"},
		{storePair{strings.Repeat("?", 128), id, "*", id}, "b" + strings.Repeat("b", 127)},
		{storePair{strings.Repeat("?", 129), id, "*", id}, ""},
		// U3: an id has 128 characters at most
		{storePair{strings.Repeat("?", 129), "a" + id, "*", "a" + id}, "a" + strings.Repeat("b",
			128)},
		{storePair{strings.Repeat("?", 129), "a" + id, "*", id}, ""},
	} {
		got, shared := test.shared(t)
		if shared != (test.want != "") {
			t.Errorf("%+v: shared %v, %q; want %q", test.storePair, shared, got, test.want)
			continue
		}
		if shared &&
			(!reaches(test.pattern, test.label, got) || !reaches(test.otherPattern, test.otherLabel,
				got) || len(got) != len(test.want)) {
			t.Errorf("%+v: %q is no example, or not as short as %q", test.storePair, got, test.want)
		}
	}
}

// Against brute force over all short labels of an alphabet.
func FuzzSharedLabels(f *testing.F) {
	f.Add("*", "{key_id}", "a*", "{key_id}")
	f.Add("[a-b]?*", "b{key_id}", "*b", "{key_id}a")
	f.Add("a[^b]*", "a/{key_id}", "a/*", "a/{key_id}")
	f.Add(`\a*[.-/]`, "{key_id}", "?b*.", "{key_id}")
	f.Add("a?", "{key_id}", "[a-b]b", "{key_id}")
	f.Add(".", "{key_id}", "?", "{key_id}")
	f.Add("**a**", "{key_id}", "*b*a", "b{key_id}")
	labels := shortLabels("ab/.-", 5)
	f.Fuzz(func(t *testing.T, pattern, label, otherPattern, otherLabel string) {
		if len(pattern)+len(otherPattern) > 24 || len(label)+len(otherLabel) > 40 {
			return // all is in the small
		}
		for _, text := range []string{pattern, otherPattern} {
			_, err := path.Match(text, "")
			_, ok := isolation.Parse(text)
			if ok != (err == nil) && isASCII(text) {
				t.Fatalf("%q is a pattern: %v, path.Match says %v", text, ok, err)
			}
			if err != nil || text == "" || !isASCII(text) {
				return
			}
		}
		for _, text := range []string{label, otherLabel} {
			if strings.Count(text, xks.KeyIDPlaceholder) != 1 || !isASCII(text) {
				return
			}
		}
		p := storePair{pattern, label, otherPattern, otherLabel}
		got, shared := p.shared(t)
		if shared {
			if !reaches(pattern, label, got) || !reaches(otherPattern, otherLabel, got) {
				t.Fatalf("%+v: %q is not reached by both", p, got)
			}
			return
		}
		for _, one := range labels {
			if reaches(pattern, label, one) && reaches(otherPattern, otherLabel, one) {
				t.Fatalf("%+v: both reach %q", p, one)
			}
		}
	})
}

func isASCII(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c >= 0x80 })
}

// shortLabels are all texts of up to size characters of an alphabet.
func shortLabels(alphabet string, size int) []string {
	all := []string{""}
	last := all
	for range size {
		var longer []string
		for _, text := range last {
			for _, c := range alphabet {
				longer = append(longer, text+string(c))
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// manyStores are a thousand owners with ten keys and one pattern each, none of which is shared.
func manyStores() *Config {
	c := storePair{}.config()
	c.KeyStores = nil
	for i := range 1000 {
		name := fmt.Sprintf("agency-%d", i)
		k := KeyStore{
			Name: name, Owner: name, HSMGroup: "main",
			Keys: Keys{Label: "{key_id}", Labels: []string{name + "-x*[0-9]"}},
		}
		for j := range 10 {
			k.Keys.Labels = append(k.Keys.Labels, fmt.Sprintf("%s-key-%d", name, j))
		}
		c.KeyStores = append(c.KeyStores, k)
	}
	c.Source.OwnStores = len(c.KeyStores)
	return c
}

func TestIsolationOfManyIsQuick(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"none shared": func(*Config) {},
		"all shared": func(c *Config) {
			for i := range c.KeyStores {
				c.KeyStores[i].Keys.Labels[0] = "*"
			}
		},
		"one reaches all": func(c *Config) { c.KeyStores[500].Keys.Labels[0] = "*" },
		"each has its own in the middle": func(c *Config) {
			for i := range c.KeyStores {
				c.KeyStores[i].Keys.Labels = c.KeyStores[i].Keys.Labels[1:]
				if i < 100 { // any two of these share a label
					c.KeyStores[i].Keys.Labels = []string{fmt.Sprintf("*-mid-%04d-*", i)}
				}
			}
		},
		"each template ends in its own": func(c *Config) {
			for i := range c.KeyStores {
				c.KeyStores[i].Keys = Keys{Labels: []string{"*"},
					Label: fmt.Sprintf("{key_id}-end-%04d", i)}
			}
		},
		"each ends in its own": func(c *Config) {
			for i := range c.KeyStores {
				c.KeyStores[i].Keys.Labels[0] = fmt.Sprintf("*-end-%04d", i)
			}
		},
		"one owner": func(c *Config) {
			for i := range c.KeyStores {
				c.KeyStores[i].Owner, c.KeyStores[i].Keys.Labels[0] = "all", "*"
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := manyStores()
			change(c)
			r := schema.NewReport(c.Source)
			start := time.Now()
			validateIsolation(r, c)
			took := time.Since(start)
			want := map[string]int{"all shared": 999, "one reaches all": 500, "each has its own " +
				"in the middle": 99}[name]
			// this machine may be busy; the benchmark measures
			if len(r.Problems) != want || took > time.Minute {
				t.Errorf("%d problems, want %d, after %v", len(r.Problems), want, took)
			}
			t.Log(took)
		})
	}
}

// Patterns that nobody writes are refused before they take long.
func TestIsolationIsBounded(t *testing.T) {
	c := storePair{}.config()
	c.KeyStores = nil
	for i := range 26 {
		pattern := strings.Repeat(
			fmt.Sprintf("*%c", 'a'+i), 100,
		) + "*" // no id is long enough for two of these
		c.KeyStores = append(
			c.KeyStores,
			KeyStore{Name: fmt.Sprint("s", i), Owner: fmt.Sprint(i), HSMGroup: "main",
				Keys: Keys{Label: "{key_id}", Labels: []string{pattern}}},
		)
	}
	c.Source.OwnStores = len(c.KeyStores)
	r := schema.NewReport(c.Source)
	start := time.Now()
	validateIsolation(r, c)
	took := time.Since(start)
	if len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Message, "has too many wildcards "+
		"to be compared with that of key_stores[") || took > 2*time.Minute {
		t.Errorf("%v after %v", r.Problems, took)
	}
	t.Log(took)
}

func BenchmarkIsolation(b *testing.B) {
	c := manyStores()
	for b.Loop() {
		validateIsolation(schema.NewReport(c.Source), c)
	}
}

// Groups that share an HSM share its keys; others do not.
func TestIsolationAcrossGroups(t *testing.T) {
	for _, test := range []struct {
		members []GroupMember
		want    int
	}{
		{[]GroupMember{{HSM: "hsm-b"}, {HSM: "hsm-c"}}, 1},
		{[]GroupMember{{HSM: "hsm-c"}, {HSM: "hsm-d"}}, 0},
	} {
		c := storePair{"*", "{key_id}", "*", "{key_id}"}.config()
		c.HSMGroups = append(
			c.HSMGroups, Group{Name: "second", TestKey: TestKey{Label: "ab"}, HSMs: test.members},
		)
		c.KeyStores[1].HSMGroup = "second"
		r := schema.NewReport(c.Source)
		validateIsolation(r, c)
		if len(r.Problems) != test.want {
			t.Errorf("%v: %v", test.members, r.Problems)
		}
	}
}
