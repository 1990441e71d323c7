// Package test runs the real program, built from this tree, against real SoftHSM
// tokens, over real TCP and TLS. Requirement numbers (U1, A8, …) are those of
// docs/conformance.md.
package test

// What all tests of the package share: the program, the module, a directory.

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"xks-proxy/internal/testkit"
	"xks-proxy/test/harness"
)

var (
	program string // the xks-proxy under test
	module  string // libsofthsm2.so
	scratch string // a directory of this run, in memory where there is such a place
)

// programEnv names a program to test instead of building one.
const programEnv = "PROXY_UNDER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(provisionEnv) != "" {
		os.Exit(provisionChild())
	}
	if len(os.Args) > 2 && os.Args[1] == withoutLandlock {
		fmt.Fprintln(os.Stderr, runWithoutLandlock(os.Args[2:]))
		os.Exit(1)
	}
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	err := prepare()
	defer os.RemoveAll(scratch)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the end-to-end tests cannot run:", err)
		return 1
	}
	code := m.Run()
	stopShared()
	return code
}

func prepare() error {
	var err error
	scratch, err = os.MkdirTemp(harness.FastDirectory(), "xks-proxy-test-")
	if err != nil {
		return err
	}
	module, err = testkit.SoftHSM()
	if err != nil {
		return err
	}
	program = os.Getenv(programEnv)
	if program != "" {
		return nil
	}
	program = filepath.Join(scratch, "xks-proxy")
	// A plain build, also when the tests run with -race: the race detector makes the
	// program several times slower, and the limits in time are part of what is tested. The
	// packages have tests with -race of their own.
	out, err := exec.Command("go", "build", "-o", program, "../cmd/xks-proxy").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}
