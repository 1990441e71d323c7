package breaker

// The circuit breaker of single keys that fail on an HSM which works otherwise (ErrKeyFault). Other
// HSMs are asked first for such a key, and the HSM keeps serving all others (requirement R7).

import (
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	minKeyBackoff = time.Second
	maxKeyBackoff = 30 * time.Second
	// tripsToFail is how many times in a row a key trips before it counts as failing: its metadata
	// then says DISABLED. A single fault must not change that.
	tripsToFail = 2
	maxOpenKeys = 4096
)

// KeyBreaker holds the open keys of one HSM. The zero value has none. It is safe for concurrent
// use.
type KeyBreaker struct {
	count atomic.Int32 // of keys; read by every request
	mu    sync.Mutex
	keys  map[hsm.KeyRef]*openKey
}

type openKey struct {
	until time.Time
	times int // in a row
}

// IsOpen reports whether other HSMs should be asked first for the key.
func (a *KeyBreaker) IsOpen(ref hsm.KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && time.Now().Before(s.until)
}

// Fail opens the breaker of a key, for longer each time. It reports whether the key has just
// started to count as failing.
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

// Succeed closes the breaker of a key and reports whether the key counted as failing.
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

// IsFailing reports whether the key counts as failing.
func (a *KeyBreaker) IsFailing(ref hsm.KeyRef) bool {
	if a.count.Load() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.keys[ref]
	return s != nil && s.times >= tripsToFail
}
