package main

// Golden files of pages, which are as wide as the terminal.

import (
	"strings"
	"testing"
	"unicode/utf8"

	"xks-proxy/internal/testkit"
	"xks-proxy/internal/text"
)

// checkPage compares what is printed at 120 and at 80 columns with golden files, and checks that it
// fits.
func checkPage(t *testing.T, name string, print func(*text.Page)) {
	t.Helper()
	for width, name := range map[int]string{120: name, 80: name + "-80"} {
		p := text.NewPage(width)
		print(p)
		for line := range strings.Lines(p.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d columns instead of %d: %s", n, width, line)
			}
		}
		testkit.CheckGolden(t, goldenPath(name), p.Bytes())
	}
}
