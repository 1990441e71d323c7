package main

// The admin socket: a Unix socket whose file mode says who may take HSMs out of
// service, and the identity of who does, from the kernel.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

const (
	adminMode      fs.FileMode = 0o600 // its owner's only
	adminGroupMode fs.FileMode = 0o660 // with a group
	adminUmask                 = 0o177 // makes a socket with adminMode
	adminDirMode   fs.FileMode = 0o700
	dialTimeout                = time.Second
)

// adminListener is the socket and what is needed to remove it, and no other.
type adminListener struct {
	net.Listener
	path string
	made os.FileInfo
	once sync.Once // after the first Close the file is another's
}

// listenAdmin makes the socket that a configuration names. The socket of a proxy that
// died is replaced; that of one that lives, and anything that is no socket, is an error.
func listenAdmin(c adminConfig, log *zap.Logger) (*adminListener, error) {
	fail := func(err error) (*adminListener, error) { return nil, fmt.Errorf("admin.socket: %w", err) }
	gid, err := groupID(c.Group)
	if err != nil {
		return nil, fmt.Errorf("admin.group: %w", err)
	}
	dir := filepath.Dir(c.Socket)
	err = os.MkdirAll(dir, adminDirMode)
	if err != nil {
		return fail(fmt.Errorf(`its directory cannot be made; make it, choose another place, or set it to "" to do without: %w`, err))
	}
	unlock, err := lockDirectory(dir)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	err = removeStale(c.Socket)
	if err != nil {
		return fail(err)
	}
	before := unix.Umask(adminUmask) // the mode is right from the beginning; of the whole process, for this moment
	l, err := net.Listen("unix", c.Socket)
	unix.Umask(before)
	if err != nil {
		return fail(fmt.Errorf(`it cannot be made; give the proxy's user its directory, choose another place, or set it to "" to do without: %w`, err))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // Close does, and looks whose it is
	made, err := os.Lstat(c.Socket)
	if err == nil && c.Group != "" {
		err = shareSocket(c, gid, log)
	}
	a := &adminListener{Listener: l, path: c.Socket, made: made}
	if err != nil {
		_ = a.Close() // the first error says it
		return fail(err)
	}
	return a, nil
}

// lockDirectory keeps another proxy that starts from replacing the socket that this one makes.
func lockDirectory(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("its directory %s cannot be locked: %w", dir, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks
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
		return fmt.Errorf("%s exists and is no socket; it is left as it is: remove it or choose another place", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	switch {
	case err == nil:
		_ = conn.Close() // it was for the answer only
		return fmt.Errorf("another xks-proxy serves %s; stop it, or give this one a socket of its own", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s is there, and it cannot be found out whether another xks-proxy serves it: %w", path, err)
	}
	return os.Remove(path)
}

// shareSocket lets a group use the socket.
func shareSocket(c adminConfig, gid int, log *zap.Logger) error {
	err := os.Chown(c.Socket, -1, gid)
	if err != nil {
		return fmt.Errorf("it cannot be given to the group %s, of which the proxy's user must be a member: %w", c.Group, err)
	}
	err = os.Chmod(c.Socket, adminGroupMode)
	if err != nil {
		return err
	}
	dir, err := os.Stat(filepath.Dir(c.Socket))
	if err != nil {
		return err
	}
	owner, _ := dir.Sys().(*syscall.Stat_t) // it is one on Linux
	byGroup := owner != nil && int(owner.Gid) == gid && dir.Mode()&0o010 != 0
	if !byGroup && dir.Mode()&0o001 == 0 {
		log.Warn("the admin group has no way to the admin socket: its directory does not let it through",
			zap.String("group", c.Group), zap.String("directory", filepath.Dir(c.Socket)), zap.Stringer("mode", dir.Mode()))
	}
	return nil
}

// groupID is the number of a group given by name or number; -1 for none.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	gid, err := strconv.ParseUint(name, 10, 31)
	if err == nil {
		return int(gid), nil
	}
	group, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("there is no Unix group %q on this machine; make it, or name another: %w", name, err)
	}
	return strconv.Atoi(group.Gid)
}

// Close ends the socket and removes its file, unless another has taken its place.
func (a *adminListener) Close() error {
	var err error
	a.once.Do(func() {
		err = a.Listener.Close()
		now, statErr := os.Lstat(a.path)
		if statErr == nil && os.SameFile(now, a.made) {
			err = errors.Join(err, os.Remove(a.path))
		}
	})
	return err
}

// peer is the process at the other end of a Unix socket.
type peer struct {
	User          string // its name; "" if it has none
	UID, GID, PID int
}

// String names the peer for a log.
func (p peer) String() string {
	if p.User == "" {
		return fmt.Sprintf("user %d", p.UID)
	}
	return p.User
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (p peer) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("user", p.User)
	e.AddInt64("uid", int64(p.UID))
	e.AddInt64("gid", int64(p.GID))
	e.AddInt64("pid", int64(p.PID))
	return nil
}

type peerKey struct{}

// withPeer is the ConnContext of the admin server: the kernel says who has connected
// (SO_PEERCRED, unix(7)).
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	p := peer{UID: -1, GID: -1}
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return context.WithValue(ctx, peerKey{}, p)
	}
	_ = raw.Control(func(fd uintptr) {
		credentials, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil {
			p.UID, p.GID, p.PID = int(credentials.Uid), int(credentials.Gid), int(credentials.Pid)
		}
	}) // a connection that is gone asks for nothing
	named, err := user.LookupId(strconv.Itoa(p.UID))
	if err == nil {
		p.User = named.Username
	}
	return context.WithValue(ctx, peerKey{}, p)
}

func peerOf(ctx context.Context) peer {
	p, _ := ctx.Value(peerKey{}).(peer) // the zero peer in a test without a socket
	return p
}
