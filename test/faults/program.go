package main

// The program under test as a process: started, read (its log), stopped.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	stopLimit  = 20 * time.Second
)

// event is a line of the log that is not about a good request.
type event struct {
	at   time.Time
	line string

	Time      string `json:"time"`
	Level     string `json:"level"`
	Msg       string `json:"msg"`
	HSM       string `json:"hsm"`
	To        string `json:"to"`
	Outcome   string `json:"outcome"`
	RequestID string `json:"kms_request_id"`
}

// program is a running `xks-proxy serve`.
type program struct {
	command *exec.Cmd
	exited  chan struct{}
	listen  string // of the API
	health  string // of the plain listener

	mu       sync.Mutex
	events   []event          // lines that are not about requests
	requests map[string]event // about requests that failed, by their id; the first few
	faults   int              // requests that met a fault of an HSM and were answered anyway
	out      map[string]bool  // HSMs that the log says are out of service
}

// keptRequests bounds what is remembered.
const keptRequests = 1000

func startProgram(binary, config string, environment []string) (*program, error) {
	p := &program{exited: make(chan struct{}), requests: map[string]event{}, out: map[string]bool{}}
	p.command = exec.Command(binary, "serve", "--config", config)
	p.command.Env = environment
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
			return nil, fmt.Errorf("start the program: %w\n%s", err, p.tail(20))
		}
		return p, nil
	case <-time.After(startLimit):
		_ = p.command.Process.Kill()
		return nil, fmt.Errorf("the program does not serve after %v:\n%s", startLimit, p.tail(20))
	}
}

// read reads the log until its end, and says when the program serves.
func (p *program) read(log io.Reader, serving chan<- error) {
	lines := bufio.NewReaderSize(log, 256<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			if p.listen == "" {
				serving <- errors.New("it ended")
			}
			return
		}
		if bytes.Contains(line, []byte(`"outcome":"ok"`)) && !bytes.Contains(line, []byte(`"hsm_faults"`)) {
			continue
		}
		e := event{line: strings.TrimSpace(string(line))}
		if json.Unmarshal(line, &e) != nil {
			e.Msg, e.Level = "not JSON", "error" // a panic's trace, say
		}
		e.at, err = time.Parse(time.RFC3339Nano, e.Time)
		if err != nil {
			e.at = time.Now()
		}
		p.note(e)
		if strings.HasPrefix(e.Msg, "serving") {
			var s struct{ Listen, Health string }
			if json.Unmarshal(line, &s) != nil || s.Listen == "" {
				serving <- fmt.Errorf("the line about serving: %s", line)
				return
			}
			p.listen, p.health = s.Listen, s.Health
			serving <- nil
		}
	}
}

func (p *program) note(e event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.Msg == "request" {
		switch {
		case e.Outcome == "ok":
			p.faults++
		case len(p.requests) < keptRequests:
			p.requests[e.RequestID] = e
		}
		return
	}
	p.events = append(p.events, e)
	switch {
	case e.HSM == "":
	case strings.Contains(e.Msg, "out of service"):
		p.out[e.HSM] = true
	case strings.Contains(e.Msg, "back in service"):
		p.out[e.HSM] = false
	}
}

// anyOut reports whether the log says that some HSM is out of service.
func (p *program) anyOut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, out := range p.out {
		if out {
			return true
		}
	}
	return false
}

// since are the events after a moment.
func (p *program) since(at time.Time) []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []event
	for _, e := range p.events {
		if !e.at.Before(at) {
			list = append(list, e)
		}
	}
	return list
}

// about is the log line of a request that did not go smoothly.
func (p *program) about(requestID string) string {
	for range 20 {
		p.mu.Lock()
		e, found := p.requests[requestID]
		p.mu.Unlock()
		if found {
			return e.line
		}
		time.Sleep(20 * time.Millisecond) // the log is written every 50 ms
	}
	return "(the log has no line about it, or more failed than are kept)"
}

func (p *program) tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, e := range p.events[max(0, len(p.events)-n):] {
		lines = append(lines, e.line)
	}
	return strings.Join(lines, "\n")
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

func (p *program) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// child is the process of one HSM.
type child struct {
	pid int
	hsm string
}

// children are the processes that serve HSMs now.
func (p *program) children() []child {
	pid := strconv.Itoa(p.command.Process.Pid)
	tasks, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return nil
	}
	var list []child
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		for field := range strings.FieldsSeq(string(text)) {
			arguments, err := os.ReadFile("/proc/" + field + "/cmdline")
			if err != nil {
				continue // so has the child
			}
			words := strings.Split(strings.TrimSuffix(string(arguments), "\x00"), "\x00")
			at := slices.Index(words, "hsm-worker")
			number, err := strconv.Atoi(field)
			if err == nil && at >= 0 && at+1 < len(words) {
				list = append(list, child{pid: number, hsm: words[at+1]})
			}
		}
	}
	return list
}
