package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every command has its page, which names its flags and is listed where it belongs.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	stdout, stderr, code := execute(t, "man", dir)
	if code != 0 || stdout+stderr != "" {
		t.Fatalf("exit code %d, %s%s", code, stdout, stderr)
	}
	page := func(path string) string {
		name := strings.TrimSuffix("xks-proxy-"+strings.ReplaceAll(path, " ", "-"), "-") + ".8"
		roff, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(roff)
	}
	commands := visibleCommands(t)
	for path, c := range commands {
		if path == "help" {
			continue // its page is --help
		}
		roff := page(path)
		parent, name := "", path
		if i := strings.LastIndexByte(path, ' '); i >= 0 {
			parent, name = path[:i], path[i+1:]
		}
		if !strings.Contains(page(parent), name+"(8)") {
			t.Errorf("the page above does not name %s", path)
		}
		for _, want := range []string{".SH NAME\nxks-proxy-" + strings.ReplaceAll(path, " ", "-") + " - " + c.Short, ".SH SYNOPSIS\n\\fB" + c.CommandPath()} {
			if !strings.Contains(roff, want) {
				t.Errorf("%s: %q is missing in\n%s", path, want, roff)
			}
		}
		if strings.Contains(roff, "```") || strings.Contains(roff, `=""`) ||
			strings.Contains(roff, "\n\t") {
			t.Errorf("%s: not as it should read:\n%s", path, roff)
		}
	}
	for _, want := range []string{".TP\n\\fB--state\\fP\nonly versions in this \\fBSTATE\\fR", "* marks the version", `\\x00`} {
		if !strings.Contains(page("keys list"), want) {
			t.Errorf("%q is missing in\n%s", want, page("keys list"))
		}
	}
}
