package main

// Golden files: what a test prints, compared with what it printed when somebody
// last looked. "go test -update" writes them anew; read the difference.

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"xks-proxy/internal/text"
)

var update = flag.Bool("update", false, "write golden files and docs/configuration.md anew")

func checkGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(path, got, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs (go test -update writes it anew)\n--- got\n%s\n--- want\n%s", path, got, want)
	}
}

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
		checkGolden(t, goldenPath(name), p.Bytes())
	}
}
