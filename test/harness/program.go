package harness

// The program under test as a process: started, its log read line by line, stopped.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	StartLimit   = 30 * time.Second // for the program to serve
	StopLimit    = 30 * time.Second // for it to end
	metricsLimit = 10 * time.Second
	keptLines    = 30 // of the log, for messages
)

// Addresses are those that the program says it serves at, host:port; "": it has no such listener.
type Addresses struct {
	Listen  string   // of the API
	Health  string   // of the plain listener
	Metrics string   // of metrics.listen
	More    []string `json:"more_listeners"` // of server.listeners
}

// IsServing reports whether a line of the log says that the program serves. It ends with "NOT
// READY" and more if no HSM can serve.
func IsServing(line []byte) bool { return bytes.Contains(line, []byte(`"msg":"serving`)) }

// ParseServing reads the line about serving.
func ParseServing(line []byte) (Addresses, error) {
	var a Addresses
	err := json.Unmarshal(line, &a)
	if err != nil || a.Listen == "" {
		return a, fmt.Errorf("the line about serving: %s", line)
	}
	return a, nil
}

// Program is a running process of the program. It is killed when this process ends.
type Program struct {
	PID int
	Addresses

	exited  chan struct{}
	code    int // once exited is closed
	process *os.Process

	mu   sync.Mutex
	last []string // lines that are not about requests
}

// Start starts a command and does not wait until it serves. Each line of its outputs, without the
// line break, goes to line, which must not keep it.
func Start(command *exec.Cmd, line func([]byte)) (*Program, error) {
	p := &Program{exited: make(chan struct{})}
	out := NewLineWriter(func(text []byte) {
		p.note(text)
		line(text)
	})
	command.Stdout, command.Stderr = out, out // equal: one goroutine writes
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the parent-death signal is about the thread that forked
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err != nil {
			return
		}
		_ = command.Wait() // the code says it all
		out.end()
		p.code = command.ProcessState.ExitCode()
		close(p.exited)
	}()
	err := <-started
	if err != nil {
		return nil, err
	}
	p.PID, p.process = command.Process.Pid, command.Process
	return p, nil
}

// Serve starts `PROGRAM serve --config CONFIG` and waits until it serves. The environment is added
// to that of this process.
func Serve(program, config string, environment []string, line func([]byte)) (*Program, error) {
	command := exec.Command(program, "serve", "--config", config)
	command.Env = append(os.Environ(), environment...)
	serving := make(chan []byte, 1)
	p, err := Start(command, func(text []byte) {
		if IsServing(text) {
			select {
			case serving <- bytes.Clone(text):
			default: // it says so once
			}
		}
		line(text)
	})
	if err != nil {
		return nil, fmt.Errorf("start the program: %w", err)
	}
	select {
	case text := <-serving:
		p.Addresses, err = ParseServing(text)
	case <-p.exited:
		err = fmt.Errorf("the program ended at its start:\n%s", p.Tail(20))
	case <-time.After(StartLimit):
		err = fmt.Errorf("the program does not serve after %v:\n%s", StartLimit, p.Tail(20))
	}
	if err != nil {
		_ = p.Signal(syscall.SIGKILL) // it may have ended
		return nil, err
	}
	return p, nil
}

func (p *Program) note(line []byte) {
	if bytes.Contains(line, []byte(`"msg":"request"`)) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = append(p.last[max(0, len(p.last)-keptLines):], string(line))
}

// Tail is the end of the log, at most n lines, without those about requests.
func (p *Program) Tail(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.last[max(0, len(p.last)-n):], "\n")
}

// Signal sends a signal. The error is about a process that has ended.
func (p *Program) Signal(signal os.Signal) error { return p.process.Signal(signal) }

// Exited is closed once the program has ended and its output was read.
func (p *Program) Exited() <-chan struct{} { return p.exited }

// ExitCode is good once Exited is closed.
func (p *Program) ExitCode() int { return p.code }

// HasExited reports whether the program has ended.
func (p *Program) HasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// ReadMetrics asks the plain listener for the metrics: each by its name, summed over its labels.
// The
// connection is closed, or it would be counted the next time.
func (p *Program) ReadMetrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(
		ctx, http.MethodGet, "http://"+p.Health+"/metrics", http.NoBody,
	)
	if err != nil {
		return nil, err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		id, text, _ := strings.Cut(lines.Text(), " ")
		name, _, _ := strings.Cut(id, "{")
		value, err := strconv.ParseFloat(text, 64)
		if err == nil {
			sums[name] += value
		}
	}
	return sums, lines.Err()
}

// Stop ends the program as an operator does, and kills it if it does not end.
func (p *Program) Stop() {
	_ = p.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-p.exited:
	case <-time.After(StopLimit):
		fmt.Fprintf(os.Stderr, "the program does not end within %v: killed\n", StopLimit)
		_ = p.Signal(syscall.SIGKILL)
		<-p.exited
	}
}

// LineWriter cuts what is written into lines.
type LineWriter struct {
	line    func([]byte)
	partial []byte
}

// NewLineWriter gives each line, without the line break, to line, which must not keep it.
func NewLineWriter(line func([]byte)) *LineWriter { return &LineWriter{line: line} }

// Write implements io.Writer.
func (w *LineWriter) Write(b []byte) (int, error) {
	rest := b
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		if !found {
			break
		}
		if len(w.partial) > 0 {
			line = append(w.partial, line...)
			w.partial = w.partial[:0]
		}
		w.line(line)
		rest = after
	}
	w.partial = append(w.partial, rest...)
	return len(b), nil
}

// end gives a last line that was not finished.
func (w *LineWriter) end() {
	if len(w.partial) > 0 {
		w.line(w.partial)
	}
}
