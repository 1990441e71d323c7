package durable_test

// Whatever stands in the place of a file of the state directory: it is refused, not followed, and
// nothing hangs.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/durable"
	"xks-proxy/test/asroot"
)

const nobody = 65534

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	_, err := durable.ReadFile(path, 10)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	err = durable.ReplaceFile(path, []byte("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := durable.ReadFile(path, 10)
	if err != nil || string(data) != "0123456789" {
		t.Errorf("%q, %v", data, err)
	}
	_, err = durable.ReadFile(path, 9)
	if err == nil || !strings.Contains(err.Error(), "more than 9 bytes") {
		t.Errorf("a long file: %v", err)
	}
}

// places are what others may have put where a file should be.
var places = map[string]struct {
	put   func(path, elsewhere string) error
	says  string
	write bool // ReplaceFile puts a good file in its place
}{
	"symbolic link": {
		func(p, e string) error { return errors.Join(os.WriteFile(e, []byte("x"), 0o600), os.Symlink(e, p)) },
		"is a symbolic link",
		true,
	},
	"dangling link": {
		func(p, e string) error { return os.Symlink(e, p) },
		"is a symbolic link",
		true,
	},
	"link to itself": {
		func(p, _ string) error { return os.Symlink(p, p) },
		"is a symbolic link",
		true,
	},
	"FIFO": {
		func(p, _ string) error { return syscall.Mkfifo(p, 0o600) },
		"is not a regular file",
		true,
	},
	"directory": {
		func(p, _ string) error { return os.Mkdir(p, 0o700) },
		"is not a regular file",
		false,
	},
	"socket": {
		func(p, _ string) error { return syscall.Mknod(p, syscall.S_IFSOCK|0o600, 0) },
		"is not a regular file",
		true,
	},
	"others can change it": {
		func(p, _ string) error { return errors.Join(os.WriteFile(p, []byte("x"), 0o600), os.Chmod(p, 0o646)) },
		"others can change",
		true,
	},
}

func TestWhatIsNoFile(t *testing.T) {
	for name, c := range places {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			path, elsewhere := filepath.Join(
				directory,
				"file",
			), filepath.Join(
				directory,
				"elsewhere",
			)
			err := c.put(path, elsewhere)
			if err != nil {
				t.Fatal(err)
			}
			for what, flag := range map[string]int{"read": os.O_RDONLY, "open or make": os.O_RDWR | os.O_CREATE} {
				err = testkit.InTime(t, func() error {
					file, err := durable.OpenFile(path, flag)
					if err == nil {
						file.Close()
					}
					return err
				})
				if err == nil || errors.Is(err, fs.ErrNotExist) ||
					!strings.Contains(err.Error(), path) ||
					!strings.Contains(err.Error(), c.says) {
					t.Errorf("%s: %v", what, err)
				}
			}
			before, _ := os.ReadFile(elsewhere)
			err = testkit.InTime(t, func() error { return durable.ReplaceFile(path, []byte("new")) })
			if c.write != (err == nil) {
				t.Errorf("replace: %v", err)
			}
			after, _ := os.ReadFile(elsewhere)
			if string(after) != string(before) {
				t.Errorf("what the link leads to has changed: %q", after)
			}
			data, err := durable.ReadFile(path, 10)
			if c.write && (err != nil || string(data) != "new") {
				t.Errorf("after it was replaced: %q, %v", data, err)
			}
		})
	}
}

// A device is not even opened; and another user's file is not believed. Both take root to try.
func TestDevicesAndForeignFiles(t *testing.T) {
	asroot.Needed(t, "files of other users, and devices")
	directory := t.TempDir()
	device, foreign := filepath.Join(directory, "device"), filepath.Join(directory, "foreign")
	err := errors.Join(os.WriteFile(foreign, []byte("x"), 0o600), os.Chown(foreign, nobody, -1))
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.ReadFile(foreign, 10)
	if err == nil ||
		!strings.Contains(err.Error(), "belongs to user 65534, and the proxy runs as user 0") {
		t.Errorf("a file of another user: %v", err)
	}
	err = syscall.Mknod(device, syscall.S_IFCHR|0o600, 1<<8|3) // /dev/null
	if err != nil {
		t.Logf("no devices can be made here: %v", err)
		device = os.DevNull
	}
	_, err = durable.ReadFile(device, 10)
	if err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a device: %v", err)
	}
}

func TestCheckDirectory(t *testing.T) {
	for mode, good := range map[fs.FileMode]bool{0o700: true, 0o755: true, 0o770: true, 0o777: false, 0o702: false, 0o777 | fs.ModeSticky: false} {
		directory := t.TempDir()
		err := os.Chmod(directory, mode)
		if err != nil {
			t.Fatal(err)
		}
		_, err = durable.CheckDirectory(directory)
		if good != (err == nil) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}

func TestForeignDirectory(t *testing.T) {
	asroot.Needed(t, "a directory of another user")
	directory := t.TempDir()
	err := os.Chown(directory, nobody, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = durable.CheckDirectory(directory)
	if err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("another user's: %v", err)
	}
}
