package loosening

import (
	"slices"
	"testing"

	"xks-proxy/internal/config"
)

// Every rule that a tag may name is either about sections or has a function, and no other function
// exists.
func TestRulesAreThoseOfTheTags(t *testing.T) {
	structure := []string{config.LoosensAdded, config.LoosensStores, config.LoosensShared}
	for name := range config.LooseningRules {
		_, known := loosensRules[name]
		if known == slices.Contains(structure, name) {
			t.Errorf("the rule %s: has a function is %v", name, known)
		}
	}
	if len(config.LooseningRules) != len(loosensRules)+len(structure) {
		t.Errorf("%d rules in words, %d functions", len(config.LooseningRules), len(loosensRules))
	}
	if len(Settings()) < 15 {
		t.Errorf("only %q can loosen", Settings())
	}
}
