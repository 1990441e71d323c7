// Package peer identifies the process at the other end of a Unix socket: its user, whether it still
// waits, and whether it descends from this process.
package peer

// The numbers come from the kernel (SO_PEERCRED, unix(7)); the name is looked up separately. An
// order whose caller has gone must not be carried out later.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// Peer is the process at the other end of a Unix socket.
type Peer struct {
	User          string // its name; "" if it has none or the name service did not answer in time
	UID, GID, PID int    // -1, -1, 0 if the kernel does not say
}

// String names the peer for a log.
func (p Peer) String() string {
	if p.User == "" {
		return fmt.Sprintf("user %d", p.UID)
	}
	return p.User
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (p Peer) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("user", p.User)
	e.AddInt64("uid", int64(p.UID))
	e.AddInt64("gid", int64(p.GID))
	e.AddInt64("pid", int64(p.PID))
	return nil
}

// caller is a connection to the admin socket.
type caller struct {
	peer  Peer // without its name
	names *Names
	raw   syscall.RawConn // nil: not known
}

type callerKey struct{}

// Context returns a function for http.Server.ConnContext that notes the peer of a connection. It
// never waits, because the loop that accepts connections calls it.
func Context(names *Names) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, conn net.Conn) context.Context {
		c := &caller{peer: Peer{UID: -1, GID: -1}, names: names}
		raw, err := conn.(*net.UnixConn).SyscallConn()
		if err == nil {
			c.raw = raw
			// It fails only for a connection that is closed, and needs no answer.
			_ = raw.Control(func(fd uintptr) { c.peer.read(int(fd)) })
			names.begin(c.peer.UID)
		}
		return context.WithValue(ctx, callerKey{}, c)
	}
}

func (p *Peer) read(fd int) {
	credentials, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil {
		p.UID, p.GID, p.PID = int(credentials.Uid), int(credentials.Gid), int(credentials.Pid)
	}
}

// Of returns the peer of a request of the connection of ctx. It waits 250 ms at most for the name.
func Of(ctx context.Context) Peer {
	c, _ := ctx.Value(callerKey{}).(*caller)
	if c == nil {
		return Peer{} // in a test without a socket
	}
	p := c.peer
	if p.UID >= 0 {
		p.User = c.names.name(p.UID)
	}
	return p
}

// ErrGone is an order that was not carried out because nobody waits for its answer any more.
var ErrGone = errors.New(
	"the caller went away before the order took effect: nothing was changed",
)

// Gone returns ErrGone if ctx has ended, or if the peer has closed the connection, which net/http
// may not have noticed yet. It does not wait. Call it at the moment when an order takes effect.
func Gone(ctx context.Context) error {
	if ctx.Err() != nil {
		return ErrGone
	}
	c, _ := ctx.Value(callerKey{}).(*caller)
	if c == nil || c.raw == nil {
		return nil
	}
	closed := false
	err := c.raw.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(poll, 0)
		closed = err == nil && n > 0 &&
			poll[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	if err != nil || closed {
		return ErrGone
	}
	return nil
}
