package testkit

import (
	"strings"
	"testing"
	"unicode/utf8"
	"xks-proxy/internal/text"
)

// Golden files of pages, which are as wide as the terminal.

// CLIGolden is the golden file of what a command prints.
func CLIGolden(name string) string { return "testdata/cli/" + name + ".txt" }

// CheckPage compares what is printed at 120 and at 80 columns with golden files, and checks that it
// fits.
func CheckPage(t *testing.T, name string, print func(*text.Page)) {
	t.Helper()
	for width, name := range map[int]string{120: name, 80: name + "-80"} {
		p := text.NewPage(width)
		print(p)
		for line := range strings.Lines(p.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d columns instead of %d: %s", n, width, line)
			}
		}
		CheckGolden(t, CLIGolden(name), p.Bytes())
	}
}
