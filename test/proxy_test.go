package test

// The program under test as a process: started, watched through its log and
// /proc, stopped.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 20 * time.Second
)

// proxy is a running `xks-proxy serve`.
type proxy struct {
	world  *world
	file   string // its configuration
	pid    int
	log    *processLog
	listen string   // host:port of the API
	health string   // host:port of the plain health listener
	scrape string   // host:port of metrics.listen, "" if there is none
	more   []string // host:port of each of server.listeners

	signal func(os.Signal) error
	exited chan struct{}
	code   int // once exited is closed
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
	p := &proxy{world: w, file: file, log: new(processLog), exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives a test run that was killed
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the parent-death signal is about the thread that forked
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // the code says it all
		p.code = cmd.ProcessState.ExitCode()
		close(p.exited)
	}()
	err := <-started
	if err != nil {
		return nil, err
	}
	p.pid, p.signal = cmd.Process.Pid, cmd.Process.Signal
	return p, nil
}

func (p *proxy) waitServing(t testing.TB) {
	t.Helper()
	p.noteServing(t, p.log.wait(t, startLimit, p.exited, isServing))
}

// isServing: the line ends with "NOT READY" and more if no HSM can serve.
func isServing(line string) bool { return strings.Contains(line, `"msg":"serving`) }

// noteServing reads the addresses from the line about serving.
func (p *proxy) noteServing(t testing.TB, line string) {
	t.Helper()
	var serving struct {
		Listen, Health, Metrics string
		More                    []string `json:"more_listeners"`
	}
	err := json.Unmarshal([]byte(line), &serving)
	if err != nil {
		t.Fatalf("the line about serving is no JSON: %v: %s", err, line)
	}
	p.listen, p.more = serving.Listen, serving.More
	p.health, p.scrape = serving.Health, serving.Metrics
}

// stop ends the proxy as an operator does, and checks that it ends well and leaves nothing.
func (p *proxy) stop(t testing.TB) {
	t.Helper()
	workers := p.workers()
	_ = p.signal(syscall.SIGTERM) // gone already: the wait says
	p.waitExit(t, stopLimit)
	for _, worker := range workers {
		waitGone(t, worker.pid)
	}
}

func (p *proxy) waitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.code
	case <-time.After(limit):
		_ = p.signal(syscall.SIGKILL)
		t.Errorf("the proxy did not end within %v; its log:\n%s", limit, p.log.tail(30))
		<-p.exited
		return -1
	}
}

// workerProcess is the process of one HSM.
type workerProcess struct {
	pid int
	hsm string
}

// workers are the children of the proxy that serve HSMs now.
func (p *proxy) workers() []workerProcess {
	var found []workerProcess
	for _, pid := range allProcesses() {
		stat, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[1] != strconv.Itoa(p.pid) {
			continue
		}
		arguments := commandLine(pid)
		if len(arguments) == 3 && arguments[1] == "hsm-worker" {
			found = append(found, workerProcess{pid: pid, hsm: arguments[2]})
		}
	}
	return found
}

// worker is the process of one HSM; one that is just being started again is waited for.
func (p *proxy) worker(t testing.TB, hsm string) int {
	t.Helper()
	pid := 0
	eventually(t, 10*time.Second, func() error {
		for _, w := range p.workers() {
			if w.hsm == hsm {
				pid = w.pid
				return nil
			}
		}
		return fmt.Errorf("no process serves %s", hsm)
	})
	return pid
}

func allProcesses() []int {
	entries, _ := os.ReadDir("/proc") // without it every caller finds nothing, and fails
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

func commandLine(pid int) []string {
	text, err := os.ReadFile(procPath(pid, "cmdline"))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

func waitGone(t testing.TB, pid int) {
	t.Helper()
	eventually(t, 20*time.Second, func() error {
		state, err := os.ReadFile(procPath(pid, "stat"))
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return nil
		}
		return fmt.Errorf("process %d lives on: %q", pid, commandLine(pid))
	})
}

// residentMemory is the RSS of a process in bytes.
func residentMemory(t testing.TB, pid int) int64 {
	t.Helper()
	bytes, err := residentOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

// residentOf is residentMemory for a process that may end meanwhile.
func residentOf(pid int) (int64, error) {
	text, err := os.ReadFile(procPath(pid, "statm"))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm of %d is %q", pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
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
	mu      sync.Mutex
	lines   []string
	partial []byte
}

var _ io.Writer = (*processLog)(nil)

// Write implements io.Writer.
func (l *processLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := append(l.partial, b...)
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			break
		}
		l.lines = append(l.lines, string(line))
		rest = after
	}
	l.partial = append([]byte(nil), rest...)
	return len(b), nil
}

// all are the lines so far; an unfinished one counts.
func (l *processLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := append([]string(nil), l.lines...)
	if len(l.partial) > 0 {
		lines = append(lines, string(l.partial))
	}
	return lines
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
