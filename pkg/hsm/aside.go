package hsm

// Keys that fail on one HSM while that HSM works (ErrKeyFault). The key is set aside there, alone:
// other HSMs are asked first for it, and the HSM keeps serving everything else (requirement R7).

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	minAside = time.Second
	maxAside = 30 * time.Second
	// asideToFail is how many times in a row a key is set aside before it counts as failing: its
	// metadata then says DISABLED. One fault that comes and goes must not change that.
	asideToFail  = 2
	maxAsideKeys = 4096
)

// aside is the keys set aside on one HSM. The zero value has none.
type aside struct {
	count atomic.Int32 // of keys; read by every request
	mu    sync.Mutex
	keys  map[KeyRef]*setAside
}

type setAside struct {
	until time.Time
	times int // in a row
}

// has reports whether the key is set aside now.
func (a *aside) has(ref KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && time.Now().Before(s.until)
}

// add sets a key aside, for longer each time. It reports whether the key now counts as failing
// and did not before.
func (a *aside) add(ref KeyRef, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	switch {
	case s == nil && len(a.keys) >= maxAsideKeys:
		return false
	case s == nil:
		if a.keys == nil {
			a.keys = map[KeyRef]*setAside{}
		}
		s = &setAside{}
		a.keys[ref] = s
		a.count.Add(1)
	case now.Before(s.until):
		return false // requests that were under way
	}
	s.until = now.Add(min(minAside<<min(s.times, 5), maxAside))
	s.times++
	return s.times == asideToFail
}

// clear ends it after a success. It reports whether the key counted as failing.
func (a *aside) clear(ref KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	if s == nil {
		return false
	}
	delete(a.keys, ref)
	a.count.Add(-1)
	return s.times >= asideToFail
}

// fails reports whether the key counts as failing.
func (a *aside) fails(ref KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && s.times >= asideToFail
}
