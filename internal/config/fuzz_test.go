package config

// Any bytes as a configuration and a file of its key store directory, with any override: never a
// panic, never an error without its place, and what loads is shown as something that loads.

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"xks-proxy/internal/testkit"
)

// placed is how every problem begins.
var placed = regexp.MustCompile(
	`^(([^\n]*store|fuzz)\.yaml:[1-9][0-9]*(:[1-9][0-9]*)?|environment variable XKS_[^\n]*): .`,
)

func FuzzLoadConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/config/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds: ", err)
	}
	const store = "owner: tax\npath_prefix: /{owner}/{name}\nhsm_group: main\nkeys: {labels: " +
		"[\"{owner}-*\"], label: \"{owner}-{key_id}\"}\n" +
		"credentials: [{access_key_id: XKSTESTACCESSKEYID222222, secret_access_key: {file: " +
		"\"{name}.key\"}}]\n"
	for _, file := range append(files, "../../configs/xks-proxy.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "XKS_LOG_LEVEL=debug", []byte(nil))
		f.Add(data, "XKS_KEY_STORES_0_OWNER=payroll", []byte(store))
	}
	f.Add([]byte(testkit.ValidConfig(f)), "XKS_LOG_LEVEL=debug", []byte(store))
	f.Add([]byte("a: &a [*a]\n"), "XKS_=", []byte("a: &a [*a]\n"))
	f.Add([]byte("a: b\n"), "XKS_a line\nand another\xff", []byte("name:\n"))
	f.Add([]byte("&a : *a\n"), "XKS_HSMS_0_PIN=1", []byte("&a : *a\n"))
	f.Add([]byte("? {a: b}\n: c\n"), "XKS_HSMS_0_PIN_FILE=1", []byte("? {a: b}\n: c\n"))
	f.Add([]byte("\ufeffserver: {listen: \"\\x00\"}\n"), "=", []byte("- a\n"))
	f.Fuzz(func(t *testing.T, data []byte, variable string, store []byte) {
		directory := fstest.MapFS{}
		if len(store) > 0 {
			directory["store.yaml"] = &fstest.MapFile{Data: store, Mode: 0o644}
		}
		l := parseTree(
			"fuzz.yaml", "/etc/xks", data, []string{variable},
			func(string) fs.FS { return directory },
		)
		if err := l.Report.Err(); err == nil {
			loadsAgain(t, l)
		}
		for _, p := range l.Report.Problems {
			if !placed.MatchString(p.String()) {
				t.Errorf("an error without its place: %q", p)
			}
		}
		for _, w := range l.Report.Warnings {
			if !placed.MatchString(w.String()) {
				t.Errorf("a warning without its place: %q", w)
			}
		}
	})
}

func loadsAgain(t *testing.T, l *Loaded) {
	var shown strings.Builder
	err := Show(&shown, l)
	if err != nil {
		t.Fatal(err)
	}
	again := Parse("fuzz.yaml", "/etc/xks", []byte(shown.String()), nil)
	err = again.Report.Err()
	if err != nil {
		t.Fatalf("shown:\n%s\ndoes not load: %v", shown.String(), err)
	}
	var shownAgain strings.Builder
	again.Report.Source = l.Report.Source
	err = Show(&shownAgain, again)
	if err != nil {
		t.Fatal(err)
	}
	if shown.String() != shownAgain.String() {
		t.Errorf("shown:\n%s\nand again:\n%s", shown.String(), shownAgain.String())
	}
}
