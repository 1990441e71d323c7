package main

// Any bytes as a configuration, with any override: never a panic, never an error
// without its place, and what loads is shown as something that loads.

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// placed is how every problem begins.
var placed = regexp.MustCompile(`^(fuzz\.yaml:[1-9][0-9]*(:[1-9][0-9]*)?|environment variable XKS_[^\n]*): .`)

func FuzzLoadConfig(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(testdataDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds: ", err)
	}
	for _, file := range append(files, "../../configs/xks-proxy.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "XKS_LOG_LEVEL=debug")
	}
	f.Add([]byte("a: &a [*a]\n"), "XKS_=")
	f.Add([]byte("a: b\n"), "XKS_a line\nand another\xff")
	f.Add([]byte("&a : *a\n"), "XKS_HSMS_0_PIN=1")
	f.Add([]byte("? {a: b}\n: c\n"), "XKS_HSMS_0_PIN_FILE=1")
	f.Add([]byte("\ufeffserver: {listen: \"\\x00\"}\n"), "=")
	f.Fuzz(func(t *testing.T, data []byte, variable string) {
		l := parseConfig("fuzz.yaml", "/etc/xks", data, []string{variable})
		if err := l.report.err(); err == nil {
			loadsAgain(t, l)
		}
		for _, p := range l.report.problems {
			if !placed.MatchString(p.String()) {
				t.Errorf("an error without its place: %q", p)
			}
		}
		for _, w := range l.report.warnings {
			if !placed.MatchString(w.String()) {
				t.Errorf("a warning without its place: %q", w)
			}
		}
	})
}

func loadsAgain(t *testing.T, l *loaded) {
	var shown strings.Builder
	err := showConfig(&shown, l)
	if err != nil {
		t.Fatal(err)
	}
	again := parseConfig("fuzz.yaml", "/etc/xks", []byte(shown.String()), nil)
	err = again.report.err()
	if err != nil {
		t.Fatalf("shown:\n%s\ndoes not load: %v", shown.String(), err)
	}
	var shownAgain strings.Builder
	again.report.origins = l.report.origins
	err = showConfig(&shownAgain, again)
	if err != nil {
		t.Fatal(err)
	}
	if shown.String() != shownAgain.String() {
		t.Errorf("shown:\n%s\nand again:\n%s", shown.String(), shownAgain.String())
	}
}
