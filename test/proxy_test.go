package test

// The program under test as a process: started, watched through its log and
// /proc, stopped.

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"xks-proxy/test/harness"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// proxy is a running `xks-proxy serve`.
type proxy struct {
	*harness.Program
	harness.Addresses // once it serves
	world             *world
	file              string // its configuration
	log               *processLog
}

// start runs a proxy with the world's settings, changed by edit, and waits until it serves.
func (w *world) start(t testing.TB, edit func(*settings)) *proxy {
	t.Helper()
	p := w.launch(t, edit)
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	return p
}

// launch does not wait, and leaves the end to the caller.
func (w *world) launch(t testing.TB, edit func(*settings)) *proxy {
	t.Helper()
	s := w.settings()
	if edit != nil {
		edit(s)
	}
	file, err := os.CreateTemp(w.Dir, "xks-proxy-*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file.Close()
	if s.Admin["socket"] == nil {
		s.Admin["socket"] = file.Name() + ".sock" // two proxies may serve one world
	}
	writeFile(t, file.Name(), s.text(t))
	p, err := launchFile(w, file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func launchFile(w *world, file string) (*proxy, error) {
	return launchCommand(w, file, program, "serve", "--config", file)
}

// launchCommand is launchFile with a command that becomes the program in the end.
func launchCommand(w *world, file string, argv ...string) (*proxy, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = filepath.Dir(file)
	log := new(processLog)
	started, err := harness.Start(cmd, log.add)
	if err != nil {
		return nil, err
	}
	return &proxy{Program: started, world: w, file: file, log: log}, nil
}

func (p *proxy) waitServing(t testing.TB) {
	t.Helper()
	p.noteServing(t, p.log.wait(t, startLimit, p.Exited(), isServing))
}

func isServing(line string) bool { return harness.IsServing([]byte(line)) }

// noteServing reads the addresses from the line about serving.
func (p *proxy) noteServing(t testing.TB, line string) {
	t.Helper()
	var err error
	p.Addresses, err = harness.ParseServing([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
}

// stop ends the proxy as an operator does, and checks that it ends well and leaves nothing.
func (p *proxy) stop(t testing.TB) {
	t.Helper()
	workers := p.workers()
	_ = p.Signal(syscall.SIGTERM) // gone already: the wait says
	p.waitExit(t, stopLimit)
	for _, worker := range workers {
		waitGone(t, worker.PID)
	}
}

func (p *proxy) waitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.Exited():
		return p.ExitCode()
	case <-time.After(limit):
		_ = p.Signal(syscall.SIGKILL)
		t.Errorf("the proxy did not end within %v; its log:\n%s", limit, p.log.tail(30))
		<-p.Exited()
		return -1
	}
}

// workers are the processes that serve HSMs now.
func (p *proxy) workers() []harness.Child { return harness.Workers(p.PID) }

// worker is the process of one HSM; one that is just being started again is waited for.
func (p *proxy) worker(t testing.TB, hsm string) int {
	t.Helper()
	pid := 0
	eventually(t, 10*time.Second, func() error {
		for _, w := range p.workers() {
			if w.HSM == hsm {
				pid = w.PID
				return nil
			}
		}
		return fmt.Errorf("no process serves %s", hsm)
	})
	return pid
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

func waitGone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		state, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return nil
		}
		return fmt.Errorf("process %d lives on: %q", pid, harness.CommandLine(pid))
	})
}

// residentMemory is the RSS of a process in bytes.
func residentMemory(t testing.TB, pid int) int64 {
	t.Helper()
	bytes, err := harness.ResidentMemory(pid)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// eventually tries until check is content or the time is over.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %v", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// processLog collects what a process prints, line by line.
type processLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *processLog) add(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
}

// all are the lines so far.
func (l *processLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// mark is a place in the log, for since.
func (l *processLog) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

func (l *processLog) since(mark int) []string { return l.all()[mark:] }

func (l *processLog) tail(n int) string {
	lines := l.all()
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// find is the first line that fits, "" if none does.
func (l *processLog) find(fits func(string) bool) string {
	for _, line := range l.all() {
		if fits(line) {
			return line
		}
	}
	return ""
}

// wait waits for a line that fits; the end of the process ends it, too.
func (l *processLog) wait(t testing.TB, limit time.Duration, exited <-chan struct{}, fits func(string) bool) string {
	t.Helper()
	deadline := time.After(limit)
	for {
		if line := l.find(fits); line != "" {
			return line
		}
		select {
		case <-exited:
			if line := l.find(fits); line != "" {
				return line
			}
			t.Fatalf("the program ended:\n%s", l.tail(30))
		case <-deadline:
			t.Fatalf("the log lacks a line after %v:\n%s", limit, l.tail(30))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// about finds the request's line by its kmsRequestId. The log is buffered for a moment.
func (l *processLog) about(requestID string) string {
	fits := func(line string) bool { return strings.Contains(line, `"kms_request_id":"`+requestID+`"`) }
	for range 50 {
		if line := l.find(fits); line != "" {
			return line
		}
		time.Sleep(20 * time.Millisecond)
	}
	return "(no line about kmsRequestId " + requestID + "; the last are)\n" + l.tail(5)
}
