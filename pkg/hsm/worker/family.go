package worker

// The helpers that a vendor's library starts, and that would outlive its process. Without root
// there is nothing in Linux that ends a whole tree of processes for sure, so three nets are laid:
// the process group, the descendants, and a mark in the environment that children inherit. A helper
// escapes that leaves the group, has itself adopted by init and clears its environment, or changes
// its user.

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// markVariable names, in the environment of a process and of all that it starts, the process.
const markVariable = "HSM_WORKER_ID"

// sweeps bounds the search for helpers that start others while they are killed.
const sweeps = 5

func newMark() string { return markVariable + "=" + rand.Text() }

// relative is a process as /proc shows it.
type relative struct {
	parent, group int
	dead          bool
}

// helpers are the processes that belong to the one with this process id and mark, without itself.
func helpers(leader int, mark string) []int {
	all := processes()
	var found []int
	for pid, r := range all {
		switch {
		case pid == leader || pid == os.Getpid() || r.dead:
		case r.group == leader, descends(all, pid, leader), isMarked(pid, mark):
			found = append(found, pid)
		}
	}
	return found
}

// killHelpers kills those of a process, until there are none.
func killHelpers(leader int, mark string) {
	for range sweeps {
		found := helpers(leader, mark)
		if len(found) == 0 {
			return
		}
		for _, pid := range found {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func descends(all map[int]relative, pid, from int) bool {
	for range len(all) {
		parent := all[pid].parent
		if parent == from {
			return true
		}
		if parent <= 1 {
			return false
		}
		pid = parent
	}
	return false
}

func isMarked(pid int, mark string) bool {
	if mark == "" {
		return false
	}
	environ, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
	if err != nil {
		return false // of another user, or gone
	}
	return bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+mark+"\x00"))
}

// processes reads all of /proc.
func processes() map[int]relative {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	all := map[int]relative{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", entry.Name(), "stat"))
		if err != nil {
			continue
		}
		r, ok := parseStat(stat)
		if ok {
			all[pid] = r
		}
	}
	return all
}

// parseStat reads "pid (name) state parent group …" (proc(5)); the name may hold anything.
func parseStat(stat []byte) (relative, bool) {
	_, rest, found := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(" "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 3 {
		return relative{}, false
	}
	parent, errParent := strconv.Atoi(string(fields[1]))
	group, errGroup := strconv.Atoi(string(fields[2]))
	dead := fields[0][0] == 'Z' || fields[0][0] == 'X'
	return relative{parent: parent, group: group, dead: dead}, errParent == nil && errGroup == nil
}
