package hsm

// Which keys of an HSM may be used although its token has changed. A token that was replaced, or
// whose key objects changed while it was away, may hold other material under the same labels: it
// serves no key before that key was compared with another HSM (requirement R6).

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// trust is what is known of one HSM's copies of the keys. The zero value trusts all.
type trust struct {
	limited atomic.Bool // read by every request; the rest only where this is set

	mu       sync.Mutex
	all      bool            // only what is in verified may be used
	verified map[KeyRef]bool // with all
	held     map[KeyRef]bool // without all: these may not be used
	reason   string          // for the operator
}

// clone is for another token under the same name: what is found out of one is not true of both.
func (t *trust) clone() *trust {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &trust{
		all: t.all, verified: maps.Clone(t.verified), held: maps.Clone(t.held),
		reason: t.reason,
	}
	c.limited.Store(t.limited.Load())
	return c
}

// allows reports whether the HSM may use its copy of a key version.
func (t *trust) allows(ref KeyRef) bool {
	if !t.limited.Load() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all {
		return t.verified[ref]
	}
	return !t.held[ref]
}

// holdAll trusts no key any more.
func (t *trust) holdAll(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.verified, t.held = true, map[KeyRef]bool{}, nil
	t.reason = reason
	t.limited.Store(true)
}

// hold does not trust these versions any more.
func (t *trust) hold(refs []KeyRef, reason string) {
	if len(refs) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = map[KeyRef]bool{}
	}
	for _, ref := range refs {
		delete(t.verified, ref)
		t.held[ref] = true
	}
	if !t.limited.Load() {
		t.reason = reason
	}
	t.limited.Store(true)
}

// verify trusts a version: it was compared, or has decrypted what another HSM encrypted.
func (t *trust) verify(ref KeyRef) {
	if !t.limited.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all {
		t.verified[ref] = true
	}
	delete(t.held, ref)
	if !t.all && len(t.held) == 0 {
		t.limited.Store(false)
	}
}

// release ends the limits once none of the versions that the HSM holds is left to compare.
func (t *trust) release(holds []KeyRef) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.limited.Load() {
		return false
	}
	for _, ref := range holds {
		if t.all && !t.verified[ref] || t.held[ref] {
			return false
		}
	}
	t.all, t.verified, t.held = false, nil, nil
	t.limited.Store(false)
	return true
}

// why is for the operator: why keys are not trusted, "" if all are.
func (t *trust) why() string {
	if !t.limited.Load() {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// wasThere reports whether the very same object was known before.
func wasThere(before []Object, object Object) bool {
	return slices.ContainsFunc(before, func(o Object) bool {
		return sameObjects([]Object{o}, []Object{object})
	})
}
