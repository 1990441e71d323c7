package main

// Whether the machine itself kept up. It may be shared, and honest requests that fail while all its
// processors are busy with something else say nothing about the program.

import (
	"sync"
	"time"
)

const (
	tick       = 5 * time.Millisecond
	stoodStill = 60 * time.Millisecond  // a tick this late
	aftermath  = 300 * time.Millisecond // until what queued up meanwhile is done
)

// machine notes how late the ticks of a clock come, which need nothing but a processor.
type machine struct {
	mu     sync.Mutex
	worst  time.Duration
	stalls []stall
}

// stall is a time in which no processor was free.
type stall struct{ from, to time.Time }

func watchMachine() *machine {
	m := new(machine)
	go func() {
		for {
			start := time.Now()
			time.Sleep(tick)
			m.note(start, time.Since(start)-tick)
		}
	}()
	return m
}

func (m *machine) note(start time.Time, late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.worst = max(m.worst, late)
	if late >= stoodStill {
		m.stalls = append(m.stalls, stall{start, start.Add(tick + late)})
	}
}

// take gives the latest tick since the last take.
func (m *machine) take() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	worst := m.worst
	m.worst = 0
	return worst
}

// stoodStillAt reports whether the machine stood still between two moments, or shortly before.
func (m *machine) stoodStillAt(from, to time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stalls {
		if from.Before(s.to.Add(aftermath)) && to.After(s.from) {
			return true
		}
	}
	return false
}
