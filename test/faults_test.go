package test

// The short forms of `make faults` and `make chaos` (docs/resilience.md): test/faults against the
// program under test. Not parallel: they are about time.

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	runFaults(t, "-short")
}

func TestChaos(t *testing.T) {
	runFaults(t, "-chaos", "-for", "60s")
}

// runFaults runs the program of test/faults, whose exit code is 0 if all is as it should be.
func runFaults(t *testing.T, arguments ...string) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "faults")
	out, err := exec.Command("go", "build", "-o", binary, "./faults").CombinedOutput()
	if err != nil {
		t.Fatalf("build test/faults: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, append([]string{"-proxy", program}, arguments...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // it has a directory to remove
	command.WaitDelay = stopLimit
	out, err = command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("faults %v: %v", arguments, err)
	}
}
