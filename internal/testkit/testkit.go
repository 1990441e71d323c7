// Package testkit is what the tests of several packages share: files, golden files, certificates
// and a configuration with everything that it names. It imports no other package of ours, so that a
// test of any package can use it. Only tests import it.
package testkit

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed valid.yaml
var valid string

// ValidConfig is valid.yaml, a configuration without errors and warnings in a directory that
// ConfigDir made. The replacements (old, new, …) change it; each old text has to occur.
func ValidConfig(t testing.TB, replacements ...string) string {
	t.Helper()
	text := valid
	for i := 0; i < len(replacements); i += 2 {
		if !strings.Contains(text, replacements[i]) {
			t.Fatalf("valid.yaml does not contain %q", replacements[i])
		}
		text = strings.ReplaceAll(text, replacements[i], replacements[i+1])
	}
	return text
}

// ConfigDir makes a directory with the files that the test configurations name, changes to it and
// returns its path without symbolic links.
func ConfigDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := Certificate(t, "xks.example.com", time.Now().Add(90*24*time.Hour))
	for name, content := range map[string]string{
		"server.crt": certificate,
		"server.key": key,
		"hsm-a.pin":  "1234-a\n",
		"hsm-b.pin":  "1234-b\n",
		"demo.key":   "N3xKqYw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU\n",
	} {
		WriteFile(t, filepath.Join(dir, name), content, 0o600)
	}
	WriteFile(t, filepath.Join(dir, "open.key"), key, 0o644)
	module, err := SoftHSM()
	if err == nil {
		err = os.Symlink(module, filepath.Join(dir, "module.so"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	return dir
}

// WriteFile writes a file with exactly this mode, whatever the umask is.
func WriteFile(t testing.TB, path, content string, mode os.FileMode) {
	t.Helper()
	err := os.WriteFile(path, []byte(content), mode)
	if err != nil {
		t.Fatal(err)
	}
	err = os.Chmod(path, mode)
	if err != nil {
		t.Fatal(err)
	}
}

// ReadFile returns the content of a file.
func ReadFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// AppendToFile adds text to a file, whose mode becomes 0600.
func AppendToFile(t testing.TB, path, text string) {
	t.Helper()
	WriteFile(t, path, ReadFile(t, path)+text, 0o600)
}

// Eventually waits until done reports true, for at most 30 seconds: the machine may be busy.
func Eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

// InTime returns what work returns, and fails the test if that takes more than five seconds.
func InTime(t testing.TB, work func() error) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- work() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("it hangs")
		return nil
	}
}

// OddLabels are labels of keys that JSON has no text for, and some that look like them.
func OddLabels() []string {
	return []string{
		"plain", "nul\x00", "nul", "\xff", "\xfe", "a\xffb", "�", "tab\t", `back\slash`, `"quoted"`, "",
	}
}
