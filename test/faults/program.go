package main

// The program under test as a process: started, read (its log), stopped.

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"xks-proxy/test/harness"
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

// program is a running `xks-proxy serve`, and what its log says.
type program struct {
	*harness.Program

	mu       sync.Mutex
	events   []event          // lines that are not about requests
	requests map[string]event // about requests that failed, by their id; the first few
	faults   int              // requests that met a fault of an HSM and were answered anyway
	out      map[string]bool  // HSMs that the log says are out of service
}

// keptRequests bounds what is remembered.
const keptRequests = 1000

func startProgram(binary, config string, environment []string) (*program, error) {
	p := &program{requests: map[string]event{}, out: map[string]bool{}}
	var err error
	p.Program, err = harness.Serve(binary, config, environment, p.read)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// read reads one line of the log.
func (p *program) read(line []byte) {
	if bytes.Contains(line, []byte(`"outcome":"ok"`)) && !bytes.Contains(line, []byte(`"hsm_faults"`)) {
		return
	}
	e := event{line: strings.TrimSpace(string(line))}
	if json.Unmarshal(line, &e) != nil {
		e.Msg, e.Level = "not JSON", "error" // a panic's trace, say
	}
	at, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		at = time.Now()
	}
	e.at = at
	p.note(e)
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
