package main

// The program under attack as a process: started, its log read, its resources counted, stopped.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"xks-proxy/test/harness"
)

const keptAlarms = 20

// program is a running `xks-proxy serve`.
type program struct {
	*harness.Program
	mutual   string // address of the port that asks for client certificates
	balanced string // address of the port for a load balancer

	mu     sync.Mutex
	alarms []string // lines that an attack must not cause: panics, and HSMs that are blamed
}

func startProgram(binary, config string) (*program, error) {
	p := new(program)
	var err error
	p.Program, err = harness.Serve(binary, config, nil, p.note)
	if err != nil {
		return nil, err
	}
	if len(p.More) != 2 {
		p.Stop()
		return nil, fmt.Errorf("the program does not serve at two more ports, but at %q", p.More)
	}
	p.mutual, p.balanced = p.More[0], p.More[1]
	return p, nil
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

func (p *program) note(line []byte) {
	for _, part := range alarming {
		if bytes.Contains(line, part) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.alarms) < keptAlarms {
				p.alarms = append(p.alarms, string(line))
			}
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

// resources are what the program holds of the machine, its workers not counted.
type resources struct {
	harness.Size
	goroutines int   // 0: not asked for
	inUse      int64 // bytes of heap and stacks that hold something
	idle       int64 // bytes of heap that hold nothing and are kept for the next need
}

// resources reads /proc. It leaves out what the program itself must be asked for: among that, for
// an ordinary user, how many files it has open.
func (p *program) resources() (resources, error) {
	size, err := harness.SizeOf(p.PID)
	return resources{Size: size}, err
}

// allResources asks the program for its goroutines and the memory of its heap as well.
func (p *program) allResources(ctx context.Context) (resources, error) {
	r, err := p.resources()
	if err != nil {
		return r, err
	}
	metrics, err := p.ReadMetrics(ctx)
	if err != nil {
		return r, err
	}
	if r.Files == 0 {
		r.Files = int(metrics["process_open_fds"])
	}
	r.goroutines = int(metrics["go_goroutines"])
	r.inUse = int64(
		metrics["go_memstats_heap_inuse_bytes"] + metrics["go_memstats_stack_inuse_bytes"],
	)
	r.idle = int64(
		metrics["go_memstats_heap_idle_bytes"] - metrics["go_memstats_heap_released_bytes"],
	)
	if r.goroutines == 0 || r.inUse == 0 || r.Files == 0 {
		return r, errors.New(
			"the metrics lack go_goroutines, go_memstats_heap_inuse_bytes or process_open_fds",
		)
	}
	return r, nil
}
