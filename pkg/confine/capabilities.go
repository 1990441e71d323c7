package confine

// Privileges of root that get around Landlock: with CAP_PERFMON or CAP_SYS_ADMIN, a process reads
// the environment and the memory map of any other (mm_access, Linux 6.16). With others, it loads
// modules into the kernel. A process that is started without root has none of them.

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that a vendor's library may use: for files and processes of other
// users, to lock memory, for its priority and limits, and to bind to a low port. Not
// CAP_DAC_READ_SEARCH, which opens files by handle, without a path; CAP_DAC_OVERRIDE includes the
// rest of it.
const kept = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE |
	1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_KILL | 1<<unix.CAP_SETGID |
	1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_IPC_LOCK |
	1<<unix.CAP_IPC_OWNER | 1<<unix.CAP_SYS_NICE | 1<<unix.CAP_SYS_RESOURCE

// dropCapabilities removes all others from this thread. Because no_new_privs is set, they do not
// come back when the thread runs another program.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	err := unix.Capget(&header, &have[0])
	if err != nil {
		return fmt.Errorf("cannot read the capabilities: %w", err)
	}
	for i := range have {
		mask := uint32(uint64(kept) >> (32 * i))
		have[i].Effective &= mask
		have[i].Permitted &= mask
		have[i].Inheritable &= mask
	}
	err = unix.Capset(&header, &have[0])
	if err != nil {
		return fmt.Errorf("cannot give up capabilities: %w", err)
	}
	return nil
}
