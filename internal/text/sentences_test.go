package text

import "testing"

// A reason may end like a sentence already.
func TestSentence(t *testing.T) {
	for s, want := range map[string]string{
		"no answer": "no answer.", "is the configuration right?": "is the configuration right?",
		"It is.": "It is.", "no!": "no!",
	} {
		if got := Sentence(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestSome(t *testing.T) {
	items := []string{"a", "b", "c", "d"}
	for shown, want := range map[int]string{2: "a, b and 2 more", 4: "a, b, c, d", 9: "a, b, c, d"} {
		if got := Some(items, shown); got != want {
			t.Errorf("%d: %q, want %q", shown, got, want)
		}
	}
}
