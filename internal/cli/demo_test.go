package cli

// Help of the demo and of the requests.

import (
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

// TestHelpOfDemoAndRequest: golden, and no wider than a terminal of 100 columns.
func TestHelpOfDemoAndRequest(t *testing.T) {
	for name, args := range map[string][]string{
		"help-demo": {"demo", "--help"}, "help-request": {"request"}, "help-request-encrypt": {"request", "encrypt", "--help"},
		"help-request-decrypt": {"request", "decrypt", "--help"}, "help-request-metadata": {"request", "metadata", "--help"}, "help-request-health": {"request", "health", "--help"},
	} {
		stdout, stderr, code := execute(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%v: exit code %d, %s", args, code, stderr)
		}
		for line := range strings.Lines(stdout) {
			if len([]rune(line)) > 101 {
				t.Errorf("%v: wider than 100 columns: %s", args, line)
			}
		}
		testkit.CheckGolden(t, testkit.CLIGolden(name), []byte(stdout))
	}
}
