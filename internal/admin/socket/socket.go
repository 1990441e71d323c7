package socket

// The admin socket: a Unix socket whose file mode says who may take HSMs out of service and block
// keys. group.go lets a group use it.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/config"
	"xks-proxy/internal/peer"
)

const (
	adminMode      fs.FileMode = 0o600 // its owner's only
	adminGroupMode fs.FileMode = 0o660 // with a group
	adminUmask                 = 0o177 // makes a socket with adminMode
	adminDirMode   fs.FileMode = 0o700
	dialTimeout                = time.Second
	adminLockWait              = 5 * time.Second
)

// Listener is the socket and what is needed to remove it, and no other.
type Listener struct {
	net.Listener
	path string
	made os.FileInfo

	once   sync.Once     // after the first Close the file is another's
	closed chan struct{} // closed then
}

// Listen makes the socket that a configuration names. The socket of a proxy that died is
// replaced; that of one that lives, and anything that is not a socket, is an error. locked is a
// directory that this process has locked already, or "". It returns soon, whatever hangs: a group
// whose name cannot be looked up in time gets its rights later.
func Listen(
	ctx context.Context,
	c config.Admin,
	locked string,
	log *zap.Logger,
) (*Listener, error) {
	fail := func(err error) (*Listener, error) { return nil, fmt.Errorf("admin.socket: %w", err) }
	dir := filepath.Dir(c.Socket)
	err := os.MkdirAll(dir, adminDirMode)
	if err != nil {
		return fail(
			fmt.Errorf(
				`its directory cannot be created; create it, choose another place, or set it to "" to do without: %w`,
				err,
			),
		)
	}
	err = checkSocketDirectory(dir)
	if err != nil {
		return fail(err)
	}
	gid, err := findGroup(ctx, c.Group)
	late := errors.Is(err, peer.ErrNoName)
	if err != nil && !late {
		return nil, fmt.Errorf("admin.group: %w", err)
	}
	unlock, err := lockDirectory(ctx, dir, locked)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	a, err := bindAdmin(c.Socket)
	if err != nil {
		return fail(err)
	}
	switch {
	case late:
		log.Error(
			"the name service of this machine does not answer: until it does, only the proxy's "+
				"user can use the admin socket",
			zap.String("group", c.Group),
		)
		go a.shareLater(c.Group, log)
	case c.Group != "":
		err = a.Share(c.Group, gid, log)
	}
	if err != nil {
		_ = a.Close() // the first error says it
		return fail(err)
	}
	return a, nil
}

// bindAdmin makes the socket, for its owner only.
func bindAdmin(path string) (*Listener, error) {
	err := removeStale(path)
	if err != nil {
		return nil, err
	}
	before := unix.Umask(
		adminUmask,
	) // the mode is right from the beginning; of the whole process, for this moment
	l, err := net.Listen("unix", path)
	unix.Umask(before)
	if err != nil {
		return nil, fmt.Errorf(
			`it cannot be made; give the proxy's user its directory, choose another place, or set it to "" to do without: %w`,
			err,
		)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // Close does, and looks whose it is
	made, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Listener{Listener: l, path: path, made: made, closed: make(chan struct{})}, nil
}

// checkSocketDirectory refuses a directory in which everybody can replace the socket: orders would
// go to the owner of the new one.
func checkSocketDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf(
			"everybody can remove and replace it, because its directory %s has mode %04o; run: "+
				"chmod o-w %s",
			dir,
			info.Mode().Perm(),
			dir,
		)
	}
	return nil
}

// lockDirectory keeps another proxy that starts from replacing the socket that this one makes.
// A proxy holds the lock for a moment only. What holds it for longer is not a proxy, and is not
// waited for.
func lockDirectory(ctx context.Context, dir, locked string) (func(), error) {
	if sameDirectory(dir, locked) {
		return func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, adminLockWait)
	defer cancel()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(
				fmt.Errorf(
					"its directory %s is locked by another process: stop it, or choose another "+
						"directory",
					dir,
				),
				f.Close(),
			)
		case <-time.After(admin.Poll):
		}
	}
	if err != nil {
		return nil, errors.Join(
			fmt.Errorf("its directory %s cannot be locked: %w", dir, err),
			f.Close(),
		)
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}

func sameDirectory(one, other string) bool {
	if other == "" {
		return false
	}
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
}

// removeStale removes the socket of a process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf(
			"%s exists and is not a socket; it is left as it is: remove it or choose another place",
			path,
		)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		_ = conn.Close() // it was for the answer only
		return fmt.Errorf(
			"another xks-proxy serves %s; stop it, or give this one a socket of its own",
			path,
		)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf(
			"%s exists, and it is unknown whether another xks-proxy serves it: %w",
			path,
			err,
		)
	}
	return os.Remove(path)
}

// Close ends the socket and removes its file, unless another has taken its place.
func (a *Listener) Close() error {
	var err error
	a.once.Do(func() {
		close(a.closed)
		err = a.Listener.Close()
		now, statErr := os.Lstat(a.path)
		if statErr == nil && os.SameFile(now, a.made) {
			err = errors.Join(err, os.Remove(a.path))
		}
	})
	return err
}
