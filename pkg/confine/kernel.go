package confine

// What the kernel supports.

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Kernel is the version of Landlock's interface (ABI) of a kernel. It is 0 without Landlock, or if
// Landlock was disabled when the kernel booted.
type Kernel int

// complete is the first ABI that lacks nothing: it confines signals and abstract Unix sockets
// (Linux 6.12).
const complete Kernel = 6

// withTruncate is the first ABI that confines truncate(2) (Linux 6.2).
const withTruncate Kernel = 3

// handled are the library's configurations by ABI, from 1.
var handled = []landlock.Config{
	landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6,
	landlock.V7, landlock.V8, landlock.V9, landlock.V10, landlock.V11,
}

// ThisKernel returns the version of the running kernel.
func ThisKernel() Kernel {
	version, err := ll.LandlockGetABIVersion()
	if err != nil || version < 0 {
		return 0
	}
	return Kernel(min(version, len(handled)))
}

// Complete reports whether everything that this package promises holds.
func (k Kernel) Complete() bool { return k >= complete }

// Missing returns in one clause what a confined process can do although it should not, or "" if
// that is nothing.
func (k Kernel) Missing() string {
	switch {
	case k.Complete():
		return ""
	case k >= withTruncate:
		return "it can send signals to processes of its user"
	case k > 0:
		return "it can truncate files and send signals to processes of its user"
	}
	return "it can read and change what its user can"
}

// String returns "Landlock ABI 6", or "no Landlock".
func (k Kernel) String() string {
	if k == 0 {
		return "no Landlock"
	}
	return fmt.Sprintf("Landlock ABI %d", int(k))
}

// config confines all accesses to files, signals and abstract Unix sockets, and nothing of the
// network.
func (k Kernel) config() landlock.Config {
	c := handled[k-1]
	return landlock.Config{HandledAccessFS: c.HandledAccessFS, Scoped: c.Scoped}.
		EnableLoggingForSubprocesses().BestEffort()
}

// Access rights that files can have; the others are for directories.
const (
	fileAccess = landlock.AccessFSSet(ll.AccessFSExecute | ll.AccessFSReadFile |
		ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev | ll.AccessFSResolveUnix)
	readAccess = landlock.AccessFSSet(ll.AccessFSExecute | ll.AccessFSReadFile |
		ll.AccessFSReadDir | ll.AccessFSResolveUnix)
	writeAccess = landlock.AccessFSSet(ll.AccessFSWriteFile | ll.AccessFSTruncate)
)

// rules returns the kernel's rules for grants, without those whose paths can no longer be opened.
func (k Kernel) rules(grants []grant) []landlock.Rule {
	all := handled[k-1].HandledAccessFS
	var rules []landlock.Rule
	add := func(access landlock.AccessFSSet, path string) {
		if canOpen(path) {
			rules = append(rules, landlock.PathAccess(access&all, path).IgnoreIfMissing())
		}
	}
	for _, g := range grants {
		access := all
		if g.readOnly {
			access &= readAccess
		}
		if !g.directory {
			access &= fileAccess
		}
		add(access, g.path)
	}
	add(readAccess&fileAccess, "/proc/self/exe")
	own := fmt.Sprintf("/proc/%d", unix.Getpid()) // of which oom_score_adj is written
	add((readAccess|writeAccess)&all, own)
	return rules
}

func canOpen(path string) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd) // it was for the answer only
	return true
}
