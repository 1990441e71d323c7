package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The real program, built once for the tests of a package.

// buildDirectory is where Program is.
var buildDirectory string

// Main runs the tests of a package and removes what Program made.
func Main(m *testing.M) {
	code := m.Run()
	if buildDirectory != "" {
		_ = os.RemoveAll(buildDirectory) // of no consequence for the result
	}
	os.Exit(code)
}

// Program returns the path of the program, built once. The package's TestMain has to call Main.
var Program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "xks-proxy-test-")
	if err != nil {
		return "", err
	}
	buildDirectory = dir
	path := filepath.Join(dir, "xks-proxy")
	output, err := exec.Command("go", "build", "-o", path, "xks-proxy/cmd/xks-proxy").
		CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, output)
	}
	return path, nil
})

// Command is one run of the program, which ends with the test.
func Command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := Program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// RunProgram runs it to its end.
func RunProgram(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := Command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
