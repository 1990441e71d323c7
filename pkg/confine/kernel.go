package confine

// What the kernel can do.

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Kernel is the version of Landlock's interface (ABI) that a kernel has; 0 if it has none, or if
// Landlock was switched off when it booted.
type Kernel int

// whole is the ABI from which on nothing is missing: signals and abstract Unix sockets are confined
// (Linux 6.12).
const whole Kernel = 6

// withTruncate is the ABI from which on truncate(2) is confined (Linux 6.2).
const withTruncate Kernel = 3

// handled are the configurations of the library by ABI, from 1.
var handled = []landlock.Config{
	landlock.V1, landlock.V2, landlock.V3, landlock.V4, landlock.V5, landlock.V6,
	landlock.V7, landlock.V8, landlock.V9, landlock.V10, landlock.V11,
}

// ThisKernel asks the kernel.
func ThisKernel() Kernel {
	version, err := ll.LandlockGetABIVersion()
	if err != nil || version < 0 {
		return 0
	}
	return Kernel(min(version, len(handled)))
}

// Whole reports whether all that this package promises holds.
func (k Kernel) Whole() bool { return k >= whole }

// Missing says in one clause what a confined process can do although it should not; "" if nothing.
func (k Kernel) Missing() string {
	switch {
	case k.Whole():
		return ""
	case k >= withTruncate:
		return "it can send signals to processes of its user"
	case k > 0:
		return "it can truncate files and send signals to processes of its user"
	}
	return "it can read and change what its user can"
}

// String names the kernel's ability.
func (k Kernel) String() string {
	if k == 0 {
		return "no Landlock"
	}
	return fmt.Sprintf("Landlock ABI %d", int(k))
}

// config is what is confined: all accesses to files, signals and abstract Unix sockets, and of the
// network nothing.
func (k Kernel) config() landlock.Config {
	c := handled[k-1]
	return landlock.Config{HandledAccessFS: c.HandledAccessFS, Scoped: c.Scoped}.
		EnableLoggingForSubprocesses().BestEffort()
}

// Access rights that files can have; others are of directories.
const (
	fileAccess = landlock.AccessFSSet(ll.AccessFSExecute | ll.AccessFSReadFile |
		ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSIoctlDev | ll.AccessFSResolveUnix)
	readAccess = landlock.AccessFSSet(ll.AccessFSExecute | ll.AccessFSReadFile |
		ll.AccessFSReadDir | ll.AccessFSResolveUnix)
	writeAccess = landlock.AccessFSSet(ll.AccessFSWriteFile | ll.AccessFSTruncate)
)

// rules are the kernel's for grants, without those whose paths cannot be opened any more.
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
