package demo

// What the kernel accounts to a process and its children (proc(5)).

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const tick = 10 * time.Millisecond // of /proc

// Children are the children of a process: of the proxy those that serve its HSMs. The order is that of their ids.
func Children(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for child := range strings.FieldsSeq(string(text)) {
			number, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			pids = append(pids, number)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// CPU is the processor time that a process and its children have used so far, in steps of 10 ms each.
func CPU(pid int) (time.Duration, error) {
	children, err := Children(pid)
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, one := range append(children, pid) {
		used, err := cpuOf(one)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// cpuOf is that of one process with all threads that it ever had (fields 14 and 15 of /proc/…/stat).
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
