package config

// Names in policies that the configuration does not have.

import (
	"strings"
	"testing"
)

func TestWhyNoKey(t *testing.T) {
	c := &Config{
		HSMGroups: []Group{{Name: "main", TestKey: TestKey{Label: "payroll-test"}}},
		KeyStores: []KeyStore{
			{
				Name:     "patterns",
				HSMGroup: "main",
				Keys:     Keys{Labels: []string{"payroll-*"}, Label: "{key_id}"},
			},
			{
				Name:     "list",
				HSMGroup: "main",
				Keys:     Keys{Labels: []string{"hr-wages", "hr-pensions"}, Label: "hr-{key_id}"},
			},
		},
	}
	for name, want := range map[string]string{
		"patterns/payroll-1": "",
		"patterns/wages": `its label "wages" matches none of ` +
			`keys.labels, which are payroll-*`,
		"patterns/payroll-test": `"payroll-test" is the proxy's own test key ` +
			`(test_key of the HSM group main)`,
		"list/wages": "",
		"list/wage": `its label "hr-wage" is not in keys.labels; ` +
			`did you mean "hr-wages"?`,
		"none/x": "",
	} {
		keyStore, id, _ := strings.Cut(name, "/")
		if got := c.whyNoKey(keyStore, id); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := shortList([]string{"a", "b", "c", "d", "e", "f"}); got != "a, b, c, d, e and 1 more" {
		t.Errorf("%q", got)
	}
}
