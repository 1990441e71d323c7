package testkit

// Golden files: the output of a test is compared with a file. "go test -update" writes the files
// again; review the difference.

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write golden files and generated documents anew")

// Update reports whether the test runs with -update. Valid in a test, not in an init function.
func Update() bool {
	return *update
}

// packageDir is where the test started: tests change the directory.
var packageDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return dir
}()

// InPackage makes a path absolute that is relative to the directory of the package under test.
func InPackage(path string) string {
	return filepath.Join(packageDir, path)
}

// CheckGolden compares got with a file, whose path is relative to the directory of the package
// under test. With -update it writes the file first.
func CheckGolden(t testing.TB, path string, got []byte) {
	t.Helper()
	file := InPackage(path)
	if Update() {
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(file, got, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if string(got) != string(want) {
		t.Errorf("%s differs (go test -update writes it anew)\n--- got\n%s\n--- want\n%s",
			path, got, want)
	}
}
