// Package test runs the real program, built from this tree, against real SoftHSM
// tokens, over real TCP and TLS. Requirement numbers (U1, A8, …) are those of
// docs/conformance.md.
package test

// What all tests of the package share: the program, the module, a directory.

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write docs/conformance.md and the golden files anew")

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
	scratch, err = os.MkdirTemp(fastDirectory(), "xks-proxy-test-")
	if err != nil {
		return err
	}
	module, err = findSoftHSM()
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

// fastDirectory is in memory where it can be: SoftHSM keeps its tokens in files.
func fastDirectory() string {
	info, err := os.Stat("/dev/shm")
	if err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

func findSoftHSM() (string, error) {
	places := []string{
		"/usr/lib/softhsm/libsofthsm2.so",
		"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
		"/usr/lib64/pkcs11/libsofthsm2.so",
		"/usr/lib64/softhsm/libsofthsm2.so",
		"/usr/lib/pkcs11/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so",
		"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	}
	if named := os.Getenv("SOFTHSM2_MODULE"); named != "" {
		places = []string{named}
	}
	for _, place := range places {
		_, err := os.Stat(place)
		if err == nil {
			return place, nil
		}
	}
	return "", errors.New("SoftHSM is missing: no libsofthsm2.so in the usual places; install the package softhsm2, or name the module in SOFTHSM2_MODULE")
}
