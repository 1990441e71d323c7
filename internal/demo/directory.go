package demo

// The directory of the demo: where everything is, whose it is, and that only one
// demo uses it at a time.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"xks-proxy/internal/config"
	"xks-proxy/internal/xksclient"
)

const (
	demoMarker      = ".xks-proxy-demo"
	demoAdminSocket = "state/admin.sock" // as in the configuration
)

// What the marker says. An unfinished directory holds nothing that was ever served.
const (
	demoUnfinished = "unfinished\n"
	demoFinished   = "The directory of an `xks-proxy demo`. Delete it as a whole when you are done.\n"
)

// Directory is one directory, locked against other demos.
type Directory struct {
	Path string // absolute
	lock *os.File
}

// demoHSM is where the files of one token are.
type demoHSM struct{ name, dir string }

func (h demoHSM) conf() string { return filepath.Join(h.dir, "softhsm2.conf") }

func (h demoHSM) tokens() string { return filepath.Join(h.dir, "tokens") }

func (h demoHSM) pin() string { return filepath.Join(h.dir, "pin") }

func (h demoHSM) soPIN() string { return filepath.Join(h.dir, "so-pin") }

func (d *Directory) file(name string) string { return filepath.Join(d.Path, name) }

func (d *Directory) config() string { return d.file("xks-proxy.yaml") }

func (d *Directory) connection() string { return d.file(xksclient.FileName) }

func (d *Directory) ca() string { return d.file("ca.crt") }

func (d *Directory) certificate() string { return d.file("server.crt") }

func (d *Directory) key() string { return d.file("server.key") }

func (d *Directory) secret() string { return d.file("credential.secret") }

func (d *Directory) log() string { return d.file("xks-proxy.log") }

// State is the path of the state directory of the demo's proxy.
func (d *Directory) State() string { return d.file("state") }

// hasSocket: the path of the admin socket fits into the address of a Unix socket.
func (d *Directory) hasSocket() bool { return len(d.file(demoAdminSocket)) <= config.MaxSocketPath }

func (d *Directory) hsms() []demoHSM {
	return []demoHSM{{"hsm-a", d.file("hsm-a")}, {"hsm-b", d.file("hsm-b")}}
}

// openDemoDirectory makes the directory, or takes over one of ours. It refuses one
// that holds anything else: nothing of the user's is ever overwritten.
func openDemoDirectory(path string) (*Directory, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("the directory %s: %w", path, err)
	}
	err = os.MkdirAll(absolute, 0o700)
	if err != nil {
		return nil, fmt.Errorf("the directory cannot be made: %w", err)
	}
	d := &Directory{Path: absolute}
	err = d.claim()
	if err != nil {
		return nil, err
	}
	return d, nil
}

// claim locks the marker, which it makes in an empty directory.
func (d *Directory) claim() error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return fmt.Errorf("the directory cannot be read: %w", err)
	}
	marker := d.file(demoMarker)
	_, err = os.Stat(marker)
	isNew := errors.Is(err, os.ErrNotExist)
	if isNew && len(entries) > 0 {
		return fmt.Errorf(
			"%s is not empty and was not made by this demo: give another --dir",
			d.Path,
		)
	}
	f, err := os.OpenFile(marker, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("the directory cannot be written to: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		_ = f.Close() // nothing was written
		return fmt.Errorf("another demo runs in %s: stop it, or give another --dir", d.Path)
	}
	d.lock = f
	if isNew {
		return d.mark(demoUnfinished)
	}
	return nil
}

func (d *Directory) mark(content string) error {
	err := os.WriteFile(d.file(demoMarker), []byte(content), 0o600)
	if err != nil {
		return fmt.Errorf("the directory cannot be written to: %w", err)
	}
	return nil
}

func (d *Directory) unlock() { _ = d.lock.Close() } // which ends the lock

// previous is the connection of an earlier run; nil if there was none that finished,
// in which case the remains are removed.
func (d *Directory) previous() (*xksclient.ConnectionFile, error) {
	content, err := os.ReadFile(d.file(demoMarker))
	if err != nil {
		return nil, fmt.Errorf("the directory cannot be read: %w", err)
	}
	if string(content) == demoFinished {
		before, err := xksclient.ReadConnectionFile(d.connection())
		for _, needed := range []string{d.secret(), d.hsms()[0].pin(), d.hsms()[0].tokens(), d.hsms()[1].pin(), d.hsms()[1].tokens()} {
			_, missing := os.Stat(needed)
			err = errors.Join(err, missing)
		}
		if err != nil {
			return nil, fmt.Errorf(
				"this demo is damaged: delete %s and start anew (%w)",
				d.Path,
				firstJoined(err),
			)
		}
		return before, nil
	}
	for _, rest := range []string{d.hsms()[0].dir, d.hsms()[1].dir, d.State()} {
		err := os.RemoveAll(rest)
		if err != nil {
			return nil, fmt.Errorf("what an interrupted demo left cannot be removed: %w", err)
		}
	}
	return nil, nil
}

// writePrivate writes a file that only its owner can read.
func writePrivate(path string, content []byte) error {
	err := os.WriteFile(path, content, 0o600)
	if err != nil {
		return fmt.Errorf("a file of the demo cannot be written: %w", err)
	}
	return nil
}
