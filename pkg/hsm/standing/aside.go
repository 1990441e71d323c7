package standing

// Keys that fail on one HSM while that HSM works (ErrKeyFault). The key is set aside there, alone:
// other HSMs are asked first for it, and the HSM keeps serving everything else (requirement R7).

import (
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	minAside = time.Second
	maxAside = 30 * time.Second
	// asideToFail is how many times in a row a key is set aside before it counts as failing: its
	// metadata then says DISABLED. One fault that comes and goes must not change that.
	asideToFail  = 2
	maxAsideKeys = 4096
)

// Aside is the keys set aside on one HSM. The zero value has none.
type Aside struct {
	count atomic.Int32 // of keys; read by every request
	mu    sync.Mutex
	keys  map[hsm.KeyRef]*setAside
}

type setAside struct {
	until time.Time
	times int // in a row
}

// Has reports whether the key is set aside now.
func (a *Aside) Has(ref hsm.KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && time.Now().Before(s.until)
}

// Add sets a key aside, for longer each time. It reports whether the key now counts as failing
// and did not before.
func (a *Aside) Add(ref hsm.KeyRef, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	switch {
	case s == nil && len(a.keys) >= maxAsideKeys:
		return false
	case s == nil:
		if a.keys == nil {
			a.keys = map[hsm.KeyRef]*setAside{}
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

// Clear ends it after a success. It reports whether the key counted as failing.
func (a *Aside) Clear(ref hsm.KeyRef) bool {
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

// Fails reports whether the key counts as failing.
func (a *Aside) Fails(ref hsm.KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && s.times >= asideToFail
}
