package config

// Whose file in the key store directory is read: who can change one has programs run as the proxy.

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func TestOwnersOfKeyStoreFiles(t *testing.T) {
	const stranger, administrator = 3_000_001, 3_000_002
	of := func(uid uint32, mode fs.FileMode) *fstest.MapFile {
		return &fstest.MapFile{
			Data: []byte("owner: x\n"), Mode: mode, Sys: &syscall.Stat_t{Uid: uid},
		}
	}
	for _, test := range []struct {
		file, directory uint32
		refused         bool
	}{
		{0, 0, false}, {0, administrator, false}, {administrator, administrator, false},
		{uint32(os.Geteuid()), administrator, false},
		{stranger, 0, true}, {stranger, administrator, true}, {stranger, uint32(os.Geteuid()),
			true},
	} {
		tree := fstest.MapFS{
			".": of(test.directory, fs.ModeDir|0o755), "tax.yaml": of(test.file, 0o644),
		}
		_, err, _ := readStoreFile(tree, "tax.yaml", "key_stores.d/tax.yaml", "key_stores.d")
		if (err != nil) != test.refused ||
			err != nil && !strings.Contains(err.Error(), "belongs to user id 3000001") {
			t.Errorf("a file of %d in a directory of %d: %v", test.file, test.directory, err)
		}
	}
}

// The file itself may stand on a file system that is open and read-only: a warning.
func TestConfigurationOpenToOthers(t *testing.T) {
	testkit.StoreDir(t)
	for mode, want := range map[os.FileMode]bool{0o644: false, 0o640: false, 0o664: true,
		0o666: true} {
		err := os.Chmod("test.yaml", mode)
		if err != nil {
			t.Fatal(err)
		}
		_, warnings, err := Load("test.yaml")
		warned := slices.ContainsFunc(
			warnings,
			func(w schema.Warning) bool {
				return strings.Contains(w.String(),
					"can be changed by others")
			},
		)
		if err != nil || warned != want {
			t.Errorf("mode %o: %v, %v", mode, warnings, err)
		}
	}
}
