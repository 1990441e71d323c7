package test

// The short form of `make attack` (docs/security.md): test/attack against the program under test. Not
// parallel: honest traffic is timed.

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestAttack(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "attack")
	out, err := exec.Command("go", "build", "-o", binary, "./attack").CombinedOutput()
	if err != nil {
		t.Fatalf("build test/attack: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, binary, "-short", "-seed", "1", "-proxy", program)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) } // it has a directory to remove
	command.WaitDelay = stopLimit
	out, err = command.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Errorf("attack -short: %v", err)
	}
}
