package server

// Whatever stands in the state directory: a start refuses it or goes on without it, follows
// nothing, and does not hang.

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/config"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/lastuse"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm"
	"xks-proxy/test/asroot"
)

// strangeFiles are what others may put where a file should be. DIR/elsewhere is what the links lead
// to.
var strangeFiles = map[string]func(path string) error{
	"FIFO":          func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"dangling link": func(path string) error { return os.Symlink(filepath.Join(filepath.Dir(path), "elsewhere"), path) },
	"link":          func(path string) error { return os.Symlink("/dev/zero", path) },
	"directory":     func(path string) error { return os.Mkdir(path, 0o700) },
	"socket":        func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|0o600, 0) },
	"changed by others": func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("{}"), 0o600), os.Chmod(path, 0o666))
	},
}

func TestStrangeStateFiles(t *testing.T) {
	h := config.HSM{Name: "hsm-a", Module: "m", Token: "t"}
	for file, test := range map[string]struct {
		open    func(directory string) error
		refused bool // else it goes on without
	}{
		killswitch.FileName: {func(d string) error { _, err := killswitch.Open(d, zap.NewNop()); return err }, true},
		stateLockName: {func(d string) error {
			unlock, err := lockState(d, zap.NewNop())
			if err == nil {
				unlock()
			}
			return err
		}, true},
		lastuse.FileName: {func(d string) error { lastuse.Open(d, time.Now(), zap.NewNop()); return nil }, false},
		"refused-pin-hsm-a.json": {func(d string) error {
			return fleet.RefusedPINs{Directory: d, Log: zap.NewNop()}.Held(h, secret.New("1234"))
		}, true}, // nobody knows whether the PIN was refused: it is not tried
	} {
		for name, put := range strangeFiles {
			t.Run(file+" "+name, func(t *testing.T) {
				directory := t.TempDir()
				err := put(filepath.Join(directory, file))
				if err != nil {
					t.Fatal(err)
				}
				err = testkit.InTime(t, func() error { return test.open(directory) })
				if test.refused != (err != nil) ||
					err != nil && !strings.Contains(err.Error(), filepath.Join(directory, file)) {
					t.Errorf("%v", err)
				}
				_, err = os.Lstat(filepath.Join(directory, "elsewhere"))
				if err == nil {
					t.Error("what the link leads to was made")
				}
			})
		}
	}
}

// What is written goes in the place of what stands there, and not where a link leads.
func TestStateFilesAreReplaced(t *testing.T) {
	for name, put := range strangeFiles {
		if name == "directory" {
			continue
		}
		directory := t.TempDir()
		k, err := killswitch.Open(directory, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		refused := fleet.RefusedPINs{Directory: directory, Log: zap.NewNop()}
		h := config.HSM{Name: "hsm-a", Module: "m", Token: "t"}
		err = errors.Join(put(filepath.Join(directory, killswitch.FileName)), put(refused.File("hsm-a")))
		if err != nil {
			t.Fatal(err)
		}
		err = testkit.InTime(t, func() error {
			_, _, err := k.Add(t.Context(), killswitch.Block{BlockTarget: killswitch.BlockTarget{KeyStore: "finance"}})
			if err != nil {
				return err
			}
			return refused.Remember(
				h,
				secret.New("1234"),
				&hsm.Error{HSM: "hsm-a", Kind: hsm.ErrPINIncorrect},
			)
		})
		if err != nil {
			t.Fatal(err)
		}
		again, err := killswitch.Open(directory, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		if blocks, _ := again.List(); len(blocks) != 1 {
			t.Errorf("%s: after a restart %v", name, blocks)
		}
		if err := refused.Held(h, secret.New("1234")); err == nil {
			t.Errorf("%s: the refused PIN is forgotten", name)
		}
		_, err = os.Lstat(filepath.Join(directory, "elsewhere"))
		if err == nil {
			t.Errorf("%s: what the link leads to was made", name)
		}
	}
}

// A directory in which others can remove files is refused; one that its group can change is worth a
// warning.
func TestStateDirectoryOfOthers(t *testing.T) {
	for mode, test := range map[os.FileMode]struct {
		good  bool
		lines int
	}{0o700: {true, 0}, 0o755: {true, 0}, 0o770: {true, 1}, 0o777: {false, 0}, 0o777 | os.ModeSticky: {false, 0}} {
		directory := t.TempDir()
		err := os.Chmod(directory, mode)
		if err != nil {
			t.Fatal(err)
		}
		core, logs := observer.New(zap.WarnLevel)
		err = checkStateDirectory(directory, zap.New(core))
		if test.good != (err == nil) || logs.Len() != test.lines {
			t.Errorf("mode %v: %v, %d lines", mode, err, logs.Len())
		}
	}
	t.Run("another user's", func(t *testing.T) {
		asroot.Needed(t, "a state directory of another user")
		directory := t.TempDir()
		err := os.Chown(directory, 65534, -1)
		if err != nil {
			t.Fatal(err)
		}
		err = checkStateDirectory(directory, zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("%v", err)
		}
	})
	file := filepath.Join(t.TempDir(), "file")
	testkit.WriteFile(t, file, "", 0o600)
	err := checkStateDirectory(file, zap.NewNop())
	if err == nil {
		t.Error("a file was taken for a directory")
	}
}

// The socket's directory, too: a user who can put another socket there would get the orders.
func TestAdminSocketInADirectoryOfOthers(t *testing.T) {
	directory := t.TempDir()
	err := os.Chmod(directory, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	_, err = socket.Listen(
		t.Context(),
		config.Admin{Socket: filepath.Join(directory, "admin.sock")},
		"",
		zap.NewNop(),
	)
	if err == nil || !strings.Contains(err.Error(), "everybody can remove and replace it") {
		t.Errorf("%v", err)
	}
}

// Rights on the socket are given to the socket, whatever has taken its place.
func TestAdminGroupOfAReplacedSocket(t *testing.T) {
	directory := t.TempDir()
	path, file := filepath.Join(directory, "admin.sock"), filepath.Join(directory, "file")
	l, err := socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	testkit.WriteFile(t, file, "precious", 0o600)
	err = errors.Join(os.Remove(path), os.Symlink(file, path))
	if err != nil {
		t.Fatal(err)
	}
	err = l.Share("group", os.Getgid(), zap.NewNop())
	if err == nil || !strings.Contains(err.Error(), "something else has taken the place") {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v", err, info.Mode())
	}
}
