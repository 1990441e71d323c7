package durable_test

// What is on the disk after a write, and after one that failed.

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"xks-proxy/pkg/durable"
)

func names(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

func TestReplaceFile(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "new", "state")
	path := filepath.Join(directory, "a.json")
	for _, content := range []string{"old content, the longer one", "new", ""} {
		err := durable.ReplaceFile(path, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("%q, %v; want %q", got, err, content)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
	if left := names(t, directory); !slices.Equal(left, []string{"a.json"}) {
		t.Errorf("left in the directory: %q", left)
	}
}

// What cannot be put in place leaves the old file and no rubbish.
func TestReplaceFileFails(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "a.json")
	err := os.Mkdir(path, 0o700) // no file can take its place
	if err != nil {
		t.Fatal(err)
	}
	err = durable.ReplaceFile(path, []byte("new"))
	if err == nil {
		t.Error("a directory was replaced")
	}
	if left := names(t, directory); !slices.Equal(left, []string{"a.json"}) {
		t.Errorf("left in the directory: %q", left)
	}
	err = durable.ReplaceFile(
		filepath.Join(path, "..", "a.json", "x", "..", "..", "file", "b"), nil,
	)
	if err != nil {
		t.Errorf("a directory that has to be made: %v", err)
	}
	err = durable.ReplaceFile("/dev/null/x", nil)
	if err == nil {
		t.Error("a file below a device was made")
	}
}

func TestRemoveUnfinished(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "a.json")
	for _, name := range []string{"a.json", ".a.json-123", ".b.json-123", "a.json-123"} {
		err := os.WriteFile(filepath.Join(directory, name), nil, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	err := durable.RemoveUnfinished(path)
	if err != nil {
		t.Fatal(err)
	}
	if left := names(t, directory); !slices.Equal(
		left, []string{".b.json-123", "a.json", "a.json-123"},
	) {
		t.Errorf("left: %q", left)
	}
	err = durable.RemoveUnfinished(filepath.Join(directory, "none", "a.json"))
	if err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
