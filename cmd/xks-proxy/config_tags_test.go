package main

// The tags of the schema that say what loosens.

import (
	"slices"
	"strings"
	"testing"
)

// Every key that a reload can change says which changes loosen, by a rule that fits it.
func TestEveryKeySaysWhatLoosens(t *testing.T) {
	decided := map[string]int{}
	var walk func(s *setting, path string)
	walk = func(s *setting, path string) {
		for _, f := range s.Fields {
			at := joinPath(path, f.Name)
			if f.Restart {
				if f.Loosens != "" {
					t.Errorf("%s: takes a restart, and says what loosens", at)
				}
				continue
			}
			rule, _, _ := strings.Cut(f.Loosens, ":")
			_, known := looseningRules[rule]
			structure := slices.Contains(
				[]string{loosensBelow, loosensAdded, loosensStores, loosensShared}, rule)
			decided[rule]++
			switch {
			case rule == loosensNever:
				continue // of all below
			case f.Kind == section && !structure, f.Kind != section && !known:
				t.Errorf("%s: loosens is %q; decide on it: see looseningRules", at, f.Loosens)
			}
			if f.Kind == section {
				walk(f, at)
			}
		}
	}
	walk(schema, "")
	for rule := range looseningRules {
		if decided[rule] == 0 {
			t.Errorf("the rule %s is of no key", rule)
		}
	}
	if decided[loosensNever] < 20 {
		t.Errorf("%v", decided)
	}
}

// A tag whose argument names no value or key would never apply.
func TestArgumentsOfRules(t *testing.T) {
	walkSchema(schema, "", func(s *setting, path string) {
		for _, f := range s.Fields {
			rule, argument, _ := strings.Cut(f.Loosens, ":")
			switch rule {
			case "to":
				if !slices.Contains(f.OneOf, argument) && f.Kind != boolean {
					t.Errorf("%s.%s cannot become %q", path, f.Name, argument)
				}
			case "limit":
				if _, found := s.field(argument); argument != "" && !found {
					t.Errorf("%s.%s: there is no %q beside it", path, f.Name, argument)
				}
			}
		}
	})
}
