package main

// The judge of the mutants: what it calls the same must be the same, and a change of anything
// signed must not escape it.

import (
	"bytes"
	"strings"
	"testing"
)

func testOriginal() *original {
	t := &target{
		API: "127.0.0.1:8443",
		Tenants: []tenant{
			{
				Name: "a", Prefix: "/a", Keys: []string{"1"},
				Credential: credential{ID: "ABCDEFGHIJKLMNOPQRSTUVWX", Secret: "s"},
			},
		},
	}
	return newOriginal(newSketch(t, &t.Tenants[0], "/health", healthBody()))
}

func TestMeaningSame(t *testing.T) {
	o := testOriginal()
	for name, change := range map[string][2]string{
		"case of a name":        {"Host:", "hOsT:"},
		"blanks around a value": {"Host: localhost:8443", "Host:   localhost:8443 \t"},
		"no blank":              {"Host: ", "Host:"},
		"an unsigned header":    {"Content-Type: application/json", "Content-Type: text/plain"},
		"LF":                    {"\r\n", "\n"},
		"order of parameters":   {"Authorization: AWS4-HMAC-SHA256 Credential=ABCDEFGHIJKLMNOPQRSTUVWX", "Authorization: AWS4-HMAC-SHA256  Credential=ABCDEFGHIJKLMNOPQRSTUVWX"},
		"another version":       {"HTTP/1.1", "HTTP/1.0"},
		"an empty line first":   {"POST", "\r\nPOST"},
		"an empty query":        {"/health", "/health?"},
	} {
		changed := strings.Replace(string(o.bytes), change[0], change[1], 1)
		if changed == string(o.bytes) {
			t.Errorf("%s: nothing was changed", name)
		}
		if got := meaningOf([]byte(changed), o.signed); got != o.meaning {
			t.Errorf("%s means something else:\n%s\nnot\n%s", name, got, o.meaning)
		}
	}
}

// Every substitution of a byte that matters means something else, but for letters of names that
// have no case.
func TestMeaningOther(t *testing.T) {
	o := testOriginal()
	list := []*original{o}
	same := 0
	for n := range o.substitutions() {
		m := mutate(list, 1, n, true)
		if bytes.Equal(m.bytes, o.bytes) {
			t.Fatalf("mutant %d is the original", n)
		}
		if meaningOf(m.bytes, o.signed) == o.meaning {
			same++
			if !onlyBlanksDiffer(o.bytes, m.bytes) {
				t.Errorf("mutant %d passes for the original: %q", n, m.bytes)
			}
		}
	}
	t.Logf("%d of %d mutants mean the same: blanks", same, o.substitutions())
}

// onlyBlanksDiffer: one kind of blank in the place of another, between the parameters of
// Authorization.
func onlyBlanksDiffer(a, b []byte) bool {
	return strings.Join(strings.Fields(string(a)), " ") == strings.Join(
		strings.Fields(string(b)), " ",
	)
}

// A mutant follows from seed and number.
func TestMutateReproducible(t *testing.T) {
	list := []*original{testOriginal()}
	others := 0
	for n := range 2000 {
		a, b := mutate(list, 7, n, false), mutate(list, 7, n, false)
		if !bytes.Equal(a.bytes, b.bytes) || a.alone != b.alone {
			t.Fatalf("mutant %d differs from itself", n)
		}
		if !bytes.Equal(a.bytes, mutate(list, 8, n, false).bytes) {
			others++
		}
	}
	if others < 1900 {
		t.Errorf("another seed makes only %d other mutants", others)
	}
}
