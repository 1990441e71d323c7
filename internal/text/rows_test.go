package text

import (
	"os/exec"
	"testing"
)

// A shell gives back what was quoted.
func TestShellQuote(t *testing.T) {
	for _, s := range []string{
		"plain/path-1.json", "", "it's", "a b", "$(exit 3)", `"\`, "`x`", "new\nline", "*", "~",
		"é", "a'b'c",
	} {
		printed, err := exec.Command("sh", "-c", "printf %s "+ShellQuote(s)).Output()
		if err != nil || string(printed) != s {
			t.Errorf("%q became %q (%v)", s, printed, err)
		}
	}
	if ShellQuote("a/b") != "a/b" {
		t.Error("quotes where none are needed")
	}
}
