package harness

// Whether the machine itself kept up. It may be shared, and honest requests that fail while all its
// processors are busy with something else say nothing about the program.

import (
	"sync"
	"time"
)

const (
	clockStep = 5 * time.Millisecond
	aftermath = 300 * time.Millisecond // until what queued up meanwhile is done
)

// Machine notes how late the ticks of a clock come, which need nothing but a processor.
type Machine struct {
	stoodStill time.Duration // a tick this late

	mu     sync.Mutex
	worst  time.Duration
	stalls []stall
}

// stall is a time in which no processor was free.
type stall struct{ from, to time.Time }

// WatchMachine starts a clock of 5 ms, for as long as the program runs. The machine stood still
// when a tick is as late as this.
func WatchMachine(stoodStill time.Duration) *Machine {
	m := &Machine{stoodStill: stoodStill}
	go func() {
		for {
			start := time.Now()
			time.Sleep(clockStep)
			m.note(start, time.Since(start)-clockStep)
		}
	}()
	return m
}

func (m *Machine) note(start time.Time, late time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.worst = max(m.worst, late)
	if late >= m.stoodStill {
		m.stalls = append(m.stalls, stall{start, start.Add(clockStep + late)})
	}
}

// Take gives the latest tick since the last Take.
func (m *Machine) Take() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	worst := m.worst
	m.worst = 0
	return worst
}

// StoodStillAt reports whether the machine stood still between two moments, or shortly before.
func (m *Machine) StoodStillAt(from, to time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stalls {
		if from.Before(s.to.Add(aftermath)) && to.After(s.from) {
			return true
		}
	}
	return false
}
