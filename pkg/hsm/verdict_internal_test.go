package hsm

import "testing"

// Every row of the decision whether a refused ciphertext is bad beyond doubt (requirement D2).
func TestProves(t *testing.T) {
	for _, test := range []struct {
		name string
		e    evidence
		want bool
	}{
		{"no refusal", evidence{compared: true, second: true, last: true}, false},
		{"unproven, whatever else", evidence{kind: unprovenRefusal, compared: true, second: true, last: true}, false},
		{"definite, compared", evidence{kind: definiteRefusal, compared: true}, true},
		{"definite, not compared", evidence{kind: definiteRefusal}, false},
		{"definite, not compared, the last", evidence{kind: definiteRefusal, last: true}, false},
		{"definite, the second", evidence{kind: definiteRefusal, second: true}, true},
		{"ambiguous, compared", evidence{kind: ambiguousRefusal, compared: true}, false},
		{"ambiguous, compared, the last", evidence{kind: ambiguousRefusal, compared: true, last: true}, true},
		{"ambiguous, not compared, the last", evidence{kind: ambiguousRefusal, last: true}, false},
		{"ambiguous, the second", evidence{kind: ambiguousRefusal, second: true}, true},
		{"differing material, definite", evidence{kind: definiteRefusal, compared: true, diverged: true}, false},
		{"differing material, the second", evidence{kind: definiteRefusal, second: true, diverged: true}, false},
		{"differing material, the last alone", evidence{kind: definiteRefusal, compared: true, last: true, diverged: true}, false},
		{"differing material, all", evidence{kind: ambiguousRefusal, second: true, last: true, diverged: true}, true},
	} {
		if got := test.e.proves(); got != test.want {
			t.Errorf("%s: proves is %t", test.name, got)
		}
	}
}
