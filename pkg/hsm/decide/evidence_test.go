package decide

import (
	"testing"
)

// Every row of the decision whether a refused ciphertext is bad beyond doubt (requirement D2).
func TestProves(t *testing.T) {
	for _, test := range []struct {
		name string
		e    Evidence
		want bool
	}{
		{"no refusal", Evidence{Compared: true, Second: true, Last: true}, false},
		{"unproven, whatever else", Evidence{Kind: UnprovenRefusal, Compared: true, Second: true, Last: true}, false},
		{"definite, compared", Evidence{Kind: definiteRefusal, Compared: true}, true},
		{"definite, not compared", Evidence{Kind: definiteRefusal}, false},
		{"definite, not compared, the last", Evidence{Kind: definiteRefusal, Last: true}, false},
		{"definite, the second", Evidence{Kind: definiteRefusal, Second: true}, true},
		{"ambiguous, compared", Evidence{Kind: ambiguousRefusal, Compared: true}, false},
		{"ambiguous, compared, the last", Evidence{Kind: ambiguousRefusal, Compared: true, Last: true}, true},
		{"ambiguous, not compared, the last", Evidence{Kind: ambiguousRefusal, Last: true}, false},
		{"ambiguous, the second", Evidence{Kind: ambiguousRefusal, Second: true}, true},
		{"differing material, definite", Evidence{Kind: definiteRefusal, Compared: true, Diverged: true}, false},
		{"differing material, the second", Evidence{Kind: definiteRefusal, Second: true, Diverged: true}, false},
		{"differing material, the last alone", Evidence{Kind: definiteRefusal, Compared: true, Last: true, Diverged: true}, false},
		{"differing material, all", Evidence{Kind: ambiguousRefusal, Second: true, Last: true, Diverged: true}, true},
	} {
		if got := test.e.Proves(); got != test.want {
			t.Errorf("%s: proves is %t", test.name, got)
		}
	}
}
