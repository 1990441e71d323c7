package test

// `config check`, `config show`, `config example` and `config schema` of the real program.

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkable is a directory with a configuration of the example's form that is good, and its file.
func checkable(t *testing.T) (string, string) {
	t.Helper()
	dir := t.TempDir()
	for at := dir; strings.Contains(at, "Test"); at = filepath.Dir(at) {
		setMode(t, at, 0o755)
	}
	newCertificates(t, dir)
	setMode(t, filepath.Join(dir, "server.crt"), 0o644)
	for _, name := range []string{"pins", "secrets", "state"} {
		err := os.Mkdir(filepath.Join(dir, name), 0o755)
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"pins/hsm-a.pin": "1234\n", "pins/hsm-b.pin": "5678\n", "secrets/demo.key": "N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU\n",
	} {
		writeFile(t, filepath.Join(dir, name), text)
		setMode(t, filepath.Join(dir, name), 0o600)
	}
	example, stderr, code := command(t, "config", "example", "--minimal")
	if code != 0 {
		t.Fatal(stderr)
	}
	file := filepath.Join(dir, "xks-proxy.yaml")
	writeFile(t, file, strings.ReplaceAll(example, "/usr/lib/softhsm/libsofthsm2.so", module))
	setMode(t, file, 0o644)
	return dir, file
}

func setMode(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	err := os.Chmod(path, mode)
	if err != nil {
		t.Fatal(err)
	}
}

func TestExampleIsGood(t *testing.T) {
	_, file := checkable(t)
	stdout, stderr, code := command(t, "config", "check", file)
	if code != 0 || !strings.HasPrefix(stdout, file+": ok\n") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	shown, stderr, code := command(t, "config", "show", file)
	if code != 0 {
		t.Fatal(stderr)
	}
	elsewhere := filepath.Join(t.TempDir(), "shown.yaml")
	writeFile(t, elsewhere, shown)
	again, stderr, code := command(t, "config", "check", elsewhere)
	if code != 0 || strings.ReplaceAll(again, elsewhere, file) != stdout {
		t.Errorf(
			"what is shown is checked to something else: exit code %d\n%s%s\ninstead of\n%s",
			code,
			again,
			stderr,
			stdout,
		)
	}
	schema, stderr, code := command(t, "config", "schema")
	if code != 0 || !json.Valid([]byte(schema)) {
		t.Errorf("the schema: exit code %d, %s", code, stderr)
	}
}

// nobodysID is a user id without a user.
const nobodysID = "54321"

// Root reads everything, an operator much; what counts is the user that the proxy runs as.
func TestCheckAsUser(t *testing.T) {
	dir, file := checkable(t)
	state := filepath.Join(dir, "state")
	check := func() (string, int) {
		t.Helper()
		stdout, _, code := command(t, "config", "check", "--json", "--as-user", nobodysID, file)
		return stdout, code
	}
	stdout, code := check()
	for _, want := range []string{"read " + dir + "/server.key", "read " + dir + "/pins/hsm-a.pin", "read " + dir + "/secrets/demo.key", "write to " + state} {
		want = "the user " + nobodysID + " cannot " + want + " (owner "
		if code != 1 || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, %q is not in\n%s", code, want, stdout)
		}
	}
	// A directory on the way.
	for _, name := range []string{"server.key", "pins/hsm-a.pin", "pins/hsm-b.pin", "secrets/demo.key"} {
		if os.Getuid() == 0 {
			chown(t, filepath.Join(dir, name), 54321)
		}
	}
	setMode(t, filepath.Join(dir, "pins"), 0o700)
	stdout, code = check()
	want := dir + "/pins/hsm-a.pin or use 1 other file of the configuration: " + dir + "/pins (owner "
	if code != 1 || !strings.Contains(stdout, want) ||
		!strings.Contains(stdout, "mode 0700) cannot be entered") {
		t.Errorf("exit code %d, %q is not in\n%s", code, want, stdout)
	}
	if os.Getuid() != 0 {
		if !strings.Contains(stdout, "are computed from owners and modes") {
			t.Errorf("does not say that nothing was tried:\n%s", stdout)
		}
		return
	}
	setMode(t, filepath.Join(dir, "pins"), 0o755)
	chown(t, state, 54322)
	setMode(t, state, 0o777)
	stdout, code = check()
	if want := state + " belongs to user id 54322"; code != 1 || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, %q is not in\n%s", code, want, stdout)
	}
	setMode(t, state, 0o700)
	chown(t, state, 54321)
	stdout, code = check()
	if code != 0 || strings.Contains(stdout, "computed") {
		t.Errorf("all is the user's: exit code %d\n%s", code, stdout)
	}
}

func chown(t *testing.T, path string, uid int) {
	t.Helper()
	err := os.Chown(path, uid, -1)
	if err != nil {
		t.Fatal(err)
	}
}
