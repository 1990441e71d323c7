package main

// The size of the program at rest: file descriptors, threads, goroutines, memory, busy sessions.
// None may
// grow with what has happened.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"xks-proxy/test/harness"
)

const (
	settling  = 3 * time.Second // at rest, before the size is taken
	idleLimit = 45 * time.Second
)

// process is the size of one process.
type process struct {
	name string
	harness.Size
	goroutines int // of the parent only
}

// measured are the program's own process and those of its HSMs.
type measured []process

// measure waits for a moment of rest first.
func (w *world) measure() (measured, error) {
	err := w.waitIdle()
	if err != nil {
		return nil, err
	}
	_, err = w.waitHealthy(healLimit)
	if err != nil {
		return nil, err
	}
	time.Sleep(settling)
	parent, err := sizeOf("parent", w.program.PID)
	if err != nil {
		return nil, err
	}
	parent.goroutines = w.metric("go_goroutines")
	parent.Files = w.metric("process_open_fds")
	if parent.Files == 0 {
		return nil, errors.New("the metrics lack process_open_fds")
	}
	list := measured{parent}
	for _, t := range w.targets {
		size, err := sizeOf(t.Name, w.workerOf(t))
		if err != nil {
			return nil, err
		}
		list = append(list, size)
	}
	return list, nil
}

func sizeOf(name string, pid int) (process, error) {
	size, err := harness.SizeOf(pid)
	if err != nil {
		return process{}, fmt.Errorf("the size of %s: %w", name, err)
	}
	return process{name: name, Size: size}, nil
}

// metric is the sum of one of the program's metrics, of all HSMs; 0 if it has none.
func (w *world) metric(name string) int {
	metrics, err := w.program.ReadMetrics(context.Background())
	if err != nil {
		return 0
	}
	return int(metrics[name])
}

// waitIdle waits until no session of an HSM has a call in it. One that hangs forever ends with its
// process, which the program ends after half a minute.
func (w *world) waitIdle() error {
	busy := 0
	for start := time.Now(); time.Since(start) < idleLimit; time.Sleep(100 * time.Millisecond) {
		busy = w.metric("xks_proxy_hsm_sessions_busy")
		if busy == 0 {
			return nil
		}
	}
	return fmt.Errorf("%d PKCS#11 sessions are still busy after %v without load", busy, idleLimit)
}

func (m measured) String() string {
	var parts []string
	for _, p := range m {
		part := p.name
		if p.Files > 0 {
			part += fmt.Sprintf(" %d files,", p.Files)
		}
		part += fmt.Sprintf(" %d threads, %.1f MiB", p.Threads, float64(p.Memory)/(1<<20))
		if p.goroutines > 0 {
			part += fmt.Sprintf(", %d goroutines", p.goroutines)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// What may be more after than before: threads and memory settle late in Go.
const (
	moreFiles      = 4
	moreThreads    = 12
	callThreads    = 36 // of an HSM's process: one for each session and lister, once all were in a call at the same time
	moreGoroutines = 20
	moreMemory     = 48 << 20
)

// grown says what has grown between two moments of rest.
func (m measured) grown(after measured) []string {
	var list []string
	for i, now := range after {
		was := m[i]
		check := func(what string, before, after, more int64) {
			if after > before+more {
				list = append(
					list,
					fmt.Sprintf("%s: %s from %d to %d", now.name, what, before, after),
				)
			}
		}
		check("files", int64(was.Files), int64(now.Files), moreFiles)
		threads := was.Threads
		if i > 0 {
			threads = max(threads, callThreads)
		}
		check("threads", int64(threads), int64(now.Threads), moreThreads)
		check("goroutines", int64(was.goroutines), int64(now.goroutines), moreGoroutines)
		check("memory", was.Memory, now.Memory, moreMemory)
	}
	return list
}
