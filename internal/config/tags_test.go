package config

// The tags of the schema that say what loosens.

import (
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/config/schema"
)

// Every key that a reload can change says which changes loosen, by a rule that fits it.
func TestEveryKeySaysWhatLoosens(t *testing.T) {
	decided := map[string]int{}
	var walk func(s *schema.Setting, path string)
	walk = func(s *schema.Setting, path string) {
		for _, f := range s.Fields {
			at := schema.JoinPath(path, f.Name)
			if f.Restart {
				if f.Loosens != "" {
					t.Errorf("%s: takes a restart, and says what loosens", at)
				}
				continue
			}
			rule, _, _ := strings.Cut(f.Loosens, ":")
			_, known := LooseningRules[rule]
			structure := slices.Contains(
				[]string{LoosensBelow, LoosensAdded, LoosensStores, LoosensShared}, rule)
			decided[rule]++
			switch {
			case rule == LoosensNever:
				continue // of all below
			case f.Kind == schema.Section && !structure, f.Kind != schema.Section && !known:
				t.Errorf("%s: loosens is %q; decide on it: see looseningRules", at, f.Loosens)
			}
			if f.Kind == schema.Section {
				walk(f, at)
			}
		}
	}
	walk(Schema, "")
	for rule := range LooseningRules {
		if decided[rule] == 0 {
			t.Errorf("the rule %s is of no key", rule)
		}
	}
	if decided[LoosensNever] < 20 {
		t.Errorf("%v", decided)
	}
}

// A tag whose argument names no value or key would never apply.
func TestArgumentsOfRules(t *testing.T) {
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		for _, f := range s.Fields {
			rule, argument, _ := strings.Cut(f.Loosens, ":")
			switch rule {
			case "to":
				if !slices.Contains(f.OneOf, argument) && f.Kind != schema.Boolean {
					t.Errorf("%s.%s cannot become %q", path, f.Name, argument)
				}
			case "limit":
				if _, found := s.Field(argument); argument != "" && !found {
					t.Errorf("%s.%s: there is no %q beside it", path, f.Name, argument)
				}
			}
		}
	})
}
