package peer

// Processes that descend from this one must not give it orders. This file finds them.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// errDescends is a peer that the proxy or one of its children has started.
var errDescends = errors.New("it was started by the proxy or by one of the proxy's processes")

// errUnknownDescent is a peer of the proxy's own user whose ancestors cannot be found.
var errUnknownDescent = errors.New(
	"it cannot be found out whether a process of the proxy has started it: " +
		"give orders as root, or as a member of admin.group")

// errLeftOver is a peer of the proxy's own user that is confined as the proxy's processes are.
var errLeftOver = errors.New(
	"it has no_new_privs and more seccomp filters than the proxy, so an earlier run of the proxy " +
		"may have started it: give orders as root, as a member of admin.group, or from a plain " +
		"shell")

// Ancestry finds out whether a process descends from this one.
type Ancestry struct {
	self, uid int
	parent    func(pid int) (Parentage, error)

	// freeToRun reports whether a process certainly lacks no_new_privs, which every process that a
	// worker starts has.
	freeToRun func(pid int) bool

	// confined reports whether a process is confined like the processes that a worker starts.
	confined func(pid int) bool
}

// Parentage is what is known of one process.
type Parentage struct {
	parent int
	start  uint64 // ticks since the boot
}

// NewAncestry looks at the processes of this machine.
func NewAncestry() Ancestry {
	return Ancestry{
		self: os.Getpid(), uid: os.Geteuid(), parent: ReadParentage, freeToRun: lacksNoNewPrivs,
		confined: isConfined,
	}
}

// maxAncestors bounds the walk.
const maxAncestors = 1000

// maxWalks bounds how often a walk begins anew. A process whose ancestors keep changing is refused.
const maxWalks = 10

// errChanging is a process that got another parent during the walk.
var errChanging = errors.New("its ancestors change")

// refuses returns why a peer may not give orders, or nil if it may. This process itself may.
func (a Ancestry) refuses(p Peer) error {
	if p.PID == a.self || p.PID <= 0 { // 0: it is outside this PID namespace, hence no descendant
		return nil
	}
	for range maxWalks {
		err := a.walk(p)
		if !errors.Is(err, errChanging) {
			return err
		}
	}
	return errUnknownDescent
}

func (a Ancestry) walk(p Peer) error {
	pid, below := p.PID, Parentage{start: ^uint64(0)}
	child := 0
	for range maxAncestors {
		now, err := a.parent(pid)
		if err != nil || now.start > below.start { // hidden, or gone and its number is another's
			return a.judgeBroken(p, child, below)
		}
		switch {
		case now.parent == a.self:
			return errDescends
		case now.parent <= 1:
			return a.judgeOther(p)
		}
		child, pid, below = pid, now.parent, now
	}
	return errUnknownDescent // an honest process has a dozen
}

// judgeOther judges a peer that does not descend from this process, but may be left over from an
// earlier run of the proxy. (If root runs the proxy, this cannot stop a library.)
func (a Ancestry) judgeOther(p Peer) error {
	if a.uid != 0 && p.UID == a.uid && a.confined(p.PID) {
		return errLeftOver
	}
	return nil
}

// judgeBroken judges a peer if the parent of child, one of its ancestors, cannot be read. If child
// has another parent by now, the walk has to begin again.
func (a Ancestry) judgeBroken(p Peer, child int, before Parentage) error {
	if child != 0 {
		now, err := a.parent(child)
		if err != nil || now != before {
			return errChanging
		}
	}
	return a.judgeUnknown(p)
}

// judgeUnknown judges a peer whose ancestors cannot be read, as with /proc mounted hidepid=.
// Processes of another user can belong to the proxy only if root started it, and root sees all of
// /proc.
func (a Ancestry) judgeUnknown(p Peer) error {
	if a.uid != 0 && p.UID != a.uid || a.freeToRun(p.PID) {
		return nil
	}
	return errUnknownDescent
}

// ReadParentage reads "pid (name) state parent …" (proc_pid_stat(5)); the name may hold anything.
func ReadParentage(pid int) (Parentage, error) {
	const parentField, startField = 1, 19 // of those after the name
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Parentage{}, err
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= startField {
		return Parentage{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	parent, err := strconv.Atoi(string(fields[parentField]))
	if err != nil {
		return Parentage{}, err
	}
	start, err := strconv.ParseUint(string(fields[startField]), 10, 64)
	return Parentage{parent: parent, start: start}, err
}

func lacksNoNewPrivs(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && bytes.Contains(status, []byte("\nNoNewPrivs:\t0\n"))
}

// isConfined reports whether package confine has confined a process, with or without Landlock.
func isConfined(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	own, ownErr := os.ReadFile("/proc/self/status")
	return err == nil && ownErr == nil && bytes.Contains(status, []byte("\nNoNewPrivs:\t1\n")) &&
		seccompFilters(status) > seccompFilters(own)
}

// seccompFilters is a number of proc_pid_status(5), from Linux 5.9 on; 0 if it is not there.
func seccompFilters(status []byte) int {
	_, after, _ := bytes.Cut(status, []byte("\nSeccomp_filters:"))
	line, _, _ := bytes.Cut(after, []byte("\n"))
	number, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return 0
	}
	return number
}

// Descent returns the peer that gives the order of ctx, and an error if it may not. The peer must
// still live, because another process could have its number by now. Without a socket, as in tests,
// the peer is zero and the error nil.
func Descent(ctx context.Context, a Ancestry) (Peer, error) {
	c, _ := ctx.Value(callerKey{}).(*caller)
	if c == nil || c.raw == nil {
		return Peer{}, nil
	}
	err := a.refuses(c.peer)
	if err == nil && c.peer.PID != a.self && c.dead() {
		err = ErrGone
	}
	return c.peer, err
}

// dead reports whether the process that connected is known to have ended (SO_PEERPIDFD, Linux 6.5).
func (c *caller) dead() bool {
	dead := false
	_ = c.raw.Control(
		func(fd uintptr) { // fails only for a closed connection, which needs no answer
			pidfd, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
			if err != nil {
				dead = errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL)
				return
			}
			dead = errors.Is(unix.PidfdSendSignal(pidfd, 0, nil, 0), unix.ESRCH)
			_ = unix.Close(pidfd)
		},
	)
	return dead
}
