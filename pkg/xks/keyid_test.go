package xks

import (
	"testing"
)

func TestKeyIDOfLabel(t *testing.T) {
	for _, test := range []struct {
		template string
		patterns []string
		label    string
		want     string
		ok       bool
	}{
		{"", []string{"*"}, "key-1", "key-1", true},
		{"", []string{"*"}, "key-1\x00", "", false},
		{"", []string{"*"}, "\xff", "", false},
		{"", []string{"*"}, "a/b", "", false},
		{"fin-{key_id}-v", []string{"fin-*"}, "fin-7-v", "7", true},
		{"fin-{key_id}-v", []string{"fin-*"}, "fin-v", "", false},
		{"fin-{key_id}", []string{"pay-*", "fin-1"}, "fin-1", "1", true},
		{"fin-{key_id}", []string{"pay-*", "fin-1"}, "fin-2", "2", false},
	} {
		id, ok := KeyStoreConfig{Labels: test.patterns, Label: test.template}.KeyID(test.label)
		if ok != test.ok || ok && id != test.want {
			t.Errorf("%+v: %q, %v", test, id, ok)
		}
	}
}
