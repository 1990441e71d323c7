package socket

// Processes that a child of the proxy leaves behind become the proxy's own children instead of
// those of the system's first process (PR_SET_CHILD_SUBREAPER, prctl(2)), so that it stays known
// where they come from. Only the proxy can wait for those that end, so it does.

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/internal/peer"
)

// orphanInterval is how often ended orphans are looked for. A child that the proxy itself has
// started is waited for at once when it ends: one that was found twice is an orphan.
const orphanInterval = 10 * time.Second

// AdoptOrphans makes this process the parent of orphans and waits for those that end, until the
// function that it returns is called.
func AdoptOrphans() (func(), error) {
	err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot adopt orphaned processes: %w", err)
	}
	end := make(chan struct{})
	go buryOrphans(end)
	return func() { close(end) }, nil
}

func buryOrphans(end <-chan struct{}) {
	before := map[int]peer.Parentage{}
	for {
		select {
		case <-end:
			return
		case <-time.After(orphanInterval): // no less, however late the last one was
			before = buryEnded(before)
		}
	}
}

// buryEnded waits for the children that have ended and had done so before, and returns those that
// have ended since.
func buryEnded(before map[int]peer.Parentage) map[int]peer.Parentage {
	var some unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &some, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || some.Signo == 0 {
		return nil // none has ended
	}
	found := map[int]peer.Parentage{}
	for _, pid := range endedChildren() {
		now, err := peer.ReadParentage(pid)
		if err != nil {
			continue
		}
		if before[pid] == now {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // what it ended with interests nobody
		} else {
			found[pid] = now
		}
	}
	return found
}

// endedChildren are the process ids of this process's children that have ended.
func endedChildren() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		var info unix.Siginfo
		err = unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == nil && info.Signo != 0 {
			found = append(found, pid)
		}
	}
	return found
}
