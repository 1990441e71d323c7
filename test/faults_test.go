package test

// The short forms of `make faults` and `make chaos` (docs/resilience.md): test/faults against the
// program under test. Not parallel: they are about time.

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// TestFaults runs both side by side: each waits most of the time. No other test runs meanwhile.
func TestFaults(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "faults")
	out, err := exec.Command("go", "build", "-o", binary, "./faults").CombinedOutput()
	if err != nil {
		t.Fatalf("build test/faults: %v\n%s", err, out)
	}
	for name, arguments := range map[string][]string{
		"table": {"-short"},
		"chaos": {"-chaos", "-for", "60s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runFaults(t, binary, arguments)
		})
	}
}

// runFaults runs the program of test/faults, whose exit code is 0 if all is as it should be.
func runFaults(t *testing.T, binary string, arguments []string) {
	t.Helper()
	for try := 1; ; try++ {
		out, err := faultsOnce(t, binary, arguments)
		t.Logf("%s", out)
		switch {
		case err == nil:
			return
		case try == faultsTries || !onlyLate.Match(out):
			t.Errorf("faults %v: %v", arguments, err)
			return
		}
		t.Log("no answer was wrong, but some came too late: once more, for the machine may be busy with something else")
	}
}

// faultsTries: what is about time may fail once. A wrong answer may not.
const faultsTries = 2

// onlyLate is what the program prints last of a table, and of chaos, without a wrong answer.
var onlyLate = regexp.MustCompile(`, 0 wrong answers|(?m)^chaos +random +\d+ +\d+ +\d+ +\d+ +0 `)

func faultsOnce(t *testing.T, binary string, arguments []string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, append([]string{"-proxy", program}, arguments...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // it has a directory to remove
	command.WaitDelay = stopLimit
	return command.CombinedOutput()
}
