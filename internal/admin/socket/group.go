package socket

// admin.group: a group that may use the admin socket.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"xks-proxy/internal/peer"
)

const (
	groupWait  = 2 * time.Second // for a group's name, at the start
	groupRetry = 5 * time.Second // between tries after that
)

// findGroup is the number of a group given by name or number; -1 for none. The error is
// peer.ErrNoName if the name service does not answer in time or fails: whether the group exists is
// then unknown.
func findGroup(ctx context.Context, name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	gid, err := strconv.ParseUint(name, 10, 31)
	if err == nil {
		return int(gid), nil
	}
	ctx, cancel := context.WithTimeout(ctx, groupWait)
	defer cancel()
	group, err := peer.LookUp(ctx, func() (*user.Group, error) { return user.LookupGroup(name) })
	var unknown user.UnknownGroupError
	switch {
	case errors.As(err, &unknown):
		return 0, fmt.Errorf(
			"the Unix group %q does not exist on this machine: create it, or name another: %w",
			name,
			err,
		)
	case errors.Is(err, peer.ErrNoName):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w: %w", peer.ErrNoName, err)
	}
	return strconv.Atoi(group.Gid)
}

// Share lets a group use the socket. It changes this socket even if another file has taken its
// path.
func (a *Listener) Share(name string, gid int, log *zap.Logger) error {
	fd, err := unix.Open(a.path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), a.path)
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(info, a.made) {
		return fmt.Errorf("something else has taken the place of %s", a.path)
	}
	err = unix.Fchownat(fd, "", -1, gid, unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf(
			"it cannot be given to the group %s, of which the proxy's user must be a member: %w",
			name,
			err,
		)
	}
	err = os.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), adminGroupMode)
	if err != nil {
		return err
	}
	return a.warnOfDirectory(name, gid, log)
}

// warnOfDirectory is for a group that has the socket and no way to it.
func (a *Listener) warnOfDirectory(name string, gid int, log *zap.Logger) error {
	dir, err := os.Stat(filepath.Dir(a.path))
	if err != nil {
		return err
	}
	owner, _ := dir.Sys().(*syscall.Stat_t) // it is one on Linux
	byGroup := owner != nil && int(owner.Gid) == gid && dir.Mode()&0o010 != 0
	if !byGroup && dir.Mode()&0o001 == 0 {
		log.Warn(
			"the admin group cannot reach the admin socket: the directory does not let it through",
			zap.String(
				"group",
				name,
			),
			zap.String("directory", filepath.Dir(a.path)),
			zap.Stringer("mode", dir.Mode()),
		)
	}
	return nil
}

// shareLater waits for a name service that did not answer at the start. It asks again only when it
// has answered: each question that hangs keeps a thread.
func (a *Listener) shareLater(name string, log *zap.Logger) {
	for {
		group, err := user.LookupGroup(name)
		if err == nil {
			a.shareNow(name, group.Gid, log)
			return
		}
		var unknown user.UnknownGroupError
		if errors.As(err, &unknown) {
			log.Error(
				"admin.group does not exist: only the proxy's user can use the admin socket",
				zap.String("group", name),
			)
			return
		}
		select {
		case <-a.closed:
			return
		case <-time.After(groupRetry):
		}
	}
}

func (a *Listener) shareNow(name, number string, log *zap.Logger) {
	gid, err := strconv.Atoi(number)
	if err == nil {
		err = a.Share(name, gid, log)
	}
	select {
	case <-a.closed: // no matter what became of it
	default:
		if err != nil {
			log.Error(
				"the admin group cannot use the admin socket",
				zap.String("group", name),
				zap.Error(err),
			)
			return
		}
		log.Info("the admin group can use the admin socket now", zap.String("group", name))
	}
}
