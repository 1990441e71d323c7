package main

import (
	"slices"
	"testing"
)

// Every rule that a tag may name is either about sections or has a function, and no other function
// exists.
func TestRulesAreThoseOfTheTags(t *testing.T) {
	structure := []string{loosensAdded, loosensStores, loosensShared}
	for name := range looseningRules {
		_, known := loosensRules[name]
		if known == slices.Contains(structure, name) {
			t.Errorf("the rule %s: has a function is %v", name, known)
		}
	}
	if len(looseningRules) != len(loosensRules)+len(structure) {
		t.Errorf("%d rules in words, %d functions", len(looseningRules), len(loosensRules))
	}
	if len(looseningSettings) < 15 {
		t.Errorf("only %q can loosen", looseningSettings)
	}
}
