package harness

// What the kernel accounts to a process and its children (proc(5)).

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const tick = 10 * time.Millisecond // of /proc

// Child is a process that a program has started.
type Child struct {
	PID int
	HSM string // that it serves; "": none
}

// Children are the children of a process: of the proxy those that serve its HSMs. The order is
// that of their ids.
func Children(pid int) ([]Child, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var found []Child
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			number, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			found = append(found, Child{PID: number, HSM: hsmOf(number)})
		}
	}
	slices.SortFunc(found, func(a, b Child) int { return a.PID - b.PID })
	return found, nil
}

// Workers are the children of a program that serve HSMs now.
func Workers(pid int) []Child {
	children, err := Children(pid)
	if err != nil {
		return nil // it has ended
	}
	return slices.DeleteFunc(children, func(c Child) bool { return c.HSM == "" })
}

// hsmOf is the HSM that a process serves, by its command line.
func hsmOf(pid int) string {
	words := CommandLine(pid)
	at := slices.Index(words, "hsm-worker")
	if at < 0 || at+1 >= len(words) {
		return ""
	}
	return words[at+1]
}

// CommandLine are the arguments of a process; nil: it has ended.
func CommandLine(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// Size is what one process holds of the machine.
type Size struct {
	Files   int // open; 0 where only root may count them
	Threads int
	Memory  int64 // resident, bytes
}

// SizeOf reads the size of a process. The error says that it has ended, too.
func SizeOf(pid int) (Size, error) {
	var s Size
	for _, part := range []struct {
		name  string
		count *int
	}{{"fd", &s.Files}, {"task", &s.Threads}} {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", pid, part.name))
		if err != nil && !errors.Is(err, os.ErrPermission) {
			return s, err
		}
		*part.count = len(entries)
	}
	var err error
	s.Memory, err = ResidentMemory(pid)
	return s, err
}

// ResidentMemory is the RSS of a process in bytes.
func ResidentMemory(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm is %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// CPU is the processor time that a process and its children have used so far, in steps of 10 ms
// each.
func CPU(pid int) (time.Duration, error) {
	children, err := Children(pid)
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, one := range append(children, Child{PID: pid}) {
		used, err := cpuOf(one.PID)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// cpuOf is that of one process with all threads that it ever had (fields 14 and 15 of
// /proc/…/stat).
func cpuOf(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has another form", pid)
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}
