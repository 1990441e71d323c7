package main

// The program under attack as a process: started, its log read, its resources counted, stopped.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startLimit = 30 * time.Second
	stopLimit  = 30 * time.Second
	keptLines  = 20
)

// program is a running `xks-proxy serve`.
type program struct {
	command *exec.Cmd
	exited  chan struct{}
	listen  string // of the API
	mutual  string // of the port that asks for client certificates

	balanced string // of the port for a load balancer
	health   string // of the plain listener

	mu     sync.Mutex
	lines  int
	alarms []string // lines that an attack must not cause: panics, and HSMs that are blamed
	last   []string // lines that are about no request
}

func startProgram(binary, config string) (*program, error) {
	p := &program{exited: make(chan struct{})}
	p.command = exec.Command(binary, "serve", "--config", config)
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	serving := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the parent-death signal is about the thread that forks
		err := p.command.Start()
		if err != nil {
			serving <- err
			return
		}
		p.read(log, serving)
		_ = p.command.Wait() // how it ended is in its log
		close(p.exited)
	}()
	select {
	case err := <-serving:
		if err != nil {
			return nil, fmt.Errorf("start the program: %w\n%s", err, p.tail())
		}
		return p, nil
	case <-time.After(startLimit):
		_ = p.command.Process.Kill()
		return nil, fmt.Errorf("the program does not serve after %v:\n%s", startLimit, p.tail())
	}
}

// Parts of lines that an attack should not cause. A breaker that trips because the machine is busy
// is no more than a remark: what counts is whether honest requests failed.
const (
	outOfService = "taken out of service"
	startedAgain = "will be started again"
)

var alarming = [][]byte{
	[]byte(`"panic"`), []byte("goroutine "), []byte(outOfService), []byte(startedAgain),
}

// read reads the log until its end, and says when the program serves.
func (p *program) read(log io.Reader, serving chan<- error) {
	lines := bufio.NewReaderSize(log, 256<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if p.listen == "" {
				serving <- errors.New("it ended")
			}
			return
		}
		p.note(line)
		if p.listen == "" && bytes.Contains(line, []byte(`"msg":"serving`)) {
			var s struct {
				Listen, Health string
				More           []string `json:"more_listeners"`
			}
			err := json.Unmarshal(line, &s)
			if err != nil || s.Listen == "" || len(s.More) != 2 {
				serving <- fmt.Errorf("the line about serving: %s", line)
				return
			}
			p.listen, p.health, p.mutual, p.balanced = s.Listen, s.Health, s.More[0], s.More[1]
			serving <- nil
		}
	}
}

func (p *program) note(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines++
	if !bytes.Contains(line, []byte(`"msg":"request"`)) {
		p.last = append(p.last[max(0, len(p.last)-keptLines):], strings.TrimSpace(string(line)))
	}
	for _, part := range alarming {
		if bytes.Contains(line, part) && len(p.alarms) < keptLines {
			p.alarms = append(p.alarms, strings.TrimSpace(string(line)))
			return
		}
	}
}

// takeAlarms gives the alarms since the last call.
func (p *program) takeAlarms() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	alarms := p.alarms
	p.alarms = nil
	return alarms
}

func (p *program) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last, "\n")
}

func (p *program) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

func (p *program) stop() {
	if p.command.Process == nil {
		return
	}
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.exited:
	case <-time.After(stopLimit):
		fmt.Fprintf(os.Stderr, "the program does not end within %v: killed\n", stopLimit)
		_ = p.command.Process.Kill()
		<-p.exited
	}
}

// resources are what the program holds of the machine, its workers not counted.
type resources struct {
	memory     int64 // resident, bytes
	threads    int
	files      int
	goroutines int   // 0: not asked for
	inUse      int64 // bytes of heap and stacks that hold something
	idle       int64 // bytes of heap that hold nothing and are kept for the next need
}

// resources reads /proc. It leaves out what the program itself must be asked for: among that, for
// an ordinary user, how many files it has open.
func (p *program) resources() (resources, error) {
	var r resources
	proc := filepath.Join("/proc", strconv.Itoa(p.command.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return r, err
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 2:
		case fields[0] == "VmRSS:":
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return r, fmt.Errorf("VmRSS: %w", err)
			}
			r.memory = kib << 10
		case fields[0] == "Threads:":
			r.threads, err = strconv.Atoi(fields[1])
			if err != nil {
				return r, fmt.Errorf("the number of threads: %w", err)
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil && !errors.Is(err, os.ErrPermission) {
		return r, err
	}
	r.files = len(files)
	return r, nil
}

// allResources asks the program for its goroutines and the memory of its heap as well.
func (p *program) allResources(ctx context.Context) (resources, error) {
	r, err := p.resources()
	if err != nil {
		return r, err
	}
	metrics, err := p.metrics(ctx)
	if err != nil {
		return r, err
	}
	if r.files == 0 {
		r.files = int(metrics["process_open_fds"])
	}
	r.goroutines = int(metrics["go_goroutines"])
	r.inUse = int64(
		metrics["go_memstats_heap_inuse_bytes"] + metrics["go_memstats_stack_inuse_bytes"],
	)
	r.idle = int64(
		metrics["go_memstats_heap_idle_bytes"] - metrics["go_memstats_heap_released_bytes"],
	)
	if r.goroutines == 0 || r.inUse == 0 || r.files == 0 {
		return r, errors.New(
			"the metrics lack go_goroutines, go_memstats_heap_inuse_bytes or process_open_fds",
		)
	}
	return r, nil
}

// metrics reads those without labels.
func (p *program) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://"+p.health+"/metrics", http.NoBody,
	)
	if err != nil {
		return nil, err
	}
	request.Close = true // or the connection would be counted the next time
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	found := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(text, 64)
		if err == nil {
			found[name] = number
		}
	}
	return found, lines.Err()
}

// workers are the processes that serve the HSMs now.
func (p *program) workers() []int {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.command.Process.Pid))
	if err != nil {
		return nil
	}
	var list []int
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err == nil {
				list = append(list, pid)
			}
		}
	}
	slices.Sort(list)
	return list
}
