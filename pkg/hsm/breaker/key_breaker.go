package breaker

// Keys that fail on one HSM while that HSM works (ErrKeyFault). The key is set aside there, alone:
// other HSMs are asked first for it, and the HSM keeps serving everything else (requirement R7).

import (
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	minKeyBackoff = time.Second
	maxKeyBackoff = 30 * time.Second
	// asideToFail is how many times in a row a key is set aside before it counts as failing: its
	// metadata then says DISABLED. One fault that comes and goes must not change that.
	tripsToFail = 2
	maxOpenKeys = 4096
)

// Aside is the keys set aside on one HSM. The zero value has none.
type KeyBreaker struct {
	count atomic.Int32 // of keys; read by every request
	mu    sync.Mutex
	keys  map[hsm.KeyRef]*openKey
}

type openKey struct {
	until time.Time
	times int // in a row
}

// Has reports whether the key is set aside now.
func (a *KeyBreaker) IsOpen(ref hsm.KeyRef) bool {
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
func (a *KeyBreaker) Fail(ref hsm.KeyRef, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	switch {
	case s == nil && len(a.keys) >= maxOpenKeys:
		return false
	case s == nil:
		if a.keys == nil {
			a.keys = map[hsm.KeyRef]*openKey{}
		}
		s = &openKey{}
		a.keys[ref] = s
		a.count.Add(1)
	case now.Before(s.until):
		return false // requests that were under way
	}
	s.until = now.Add(min(minKeyBackoff<<min(s.times, 5), maxKeyBackoff))
	s.times++
	return s.times == tripsToFail
}

// Clear ends it after a success. It reports whether the key counted as failing.
func (a *KeyBreaker) Succeed(ref hsm.KeyRef) bool {
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
	return s.times >= tripsToFail
}

// Fails reports whether the key counts as failing.
func (a *KeyBreaker) IsFailing(ref hsm.KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && s.times >= tripsToFail
}
