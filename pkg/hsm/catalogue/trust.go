package catalogue

// Which keys of an HSM may be used although its token has changed. A token that was replaced, or
// whose key objects changed while it was away, may hold other material under the same labels: it
// serves no key before that key was compared with another HSM (requirement R6).

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"xks-proxy/pkg/hsm"
)

// Trust is what is known of one HSM's copies of the keys. The zero value trusts all.
type Trust struct {
	Limited atomic.Bool // read by every request; the rest only where this is set

	mu         sync.Mutex
	all        bool                // only what is in verified may be used
	verified   map[hsm.KeyRef]bool // with all
	distrusted map[hsm.KeyRef]bool // without all: these may not be used
	reason     string              // for the operator
}

// Clone is for another token under the same name: what is found out of one is not true of both.
func (t *Trust) Clone() *Trust {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &Trust{
		all: t.all, verified: maps.Clone(t.verified), distrusted: maps.Clone(t.distrusted),
		reason: t.reason,
	}
	c.Limited.Store(t.Limited.Load())
	return c
}

// Allows reports whether the HSM may use its copy of a key version.
func (t *Trust) Allows(ref hsm.KeyRef) bool {
	if !t.Limited.Load() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all {
		return t.verified[ref]
	}
	return !t.distrusted[ref]
}

// HoldAll trusts no key any more.
func (t *Trust) DistrustAll(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.verified, t.distrusted = true, map[hsm.KeyRef]bool{}, nil
	t.reason = reason
	t.Limited.Store(true)
}

// Hold does not trust these versions any more.
func (t *Trust) Distrust(refs []hsm.KeyRef, reason string) {
	if len(refs) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.distrusted == nil {
		t.distrusted = map[hsm.KeyRef]bool{}
	}
	for _, ref := range refs {
		delete(t.verified, ref)
		t.distrusted[ref] = true
	}
	if !t.Limited.Load() {
		t.reason = reason
	}
	t.Limited.Store(true)
}

// Verify trusts a version: it was compared, or has decrypted what another HSM encrypted.
func (t *Trust) Verify(ref hsm.KeyRef) {
	if !t.Limited.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all {
		t.verified[ref] = true
	}
	delete(t.distrusted, ref)
	if !t.all && len(t.distrusted) == 0 {
		t.Limited.Store(false)
	}
}

// Release ends the limits once none of the versions that the HSM holds is left to compare.
func (t *Trust) Release(holds []hsm.KeyRef) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.Limited.Load() {
		return false
	}
	for _, ref := range holds {
		if t.all && !t.verified[ref] || t.distrusted[ref] {
			return false
		}
	}
	t.all, t.verified, t.distrusted = false, nil, nil
	t.Limited.Store(false)
	return true
}

// Why is for the operator: why keys are not trusted, "" if all are.
func (t *Trust) Reason() string {
	if !t.Limited.Load() {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// WasThere reports whether the very same object was known before.
func ContainsObject(before []hsm.Object, object hsm.Object) bool {
	return slices.ContainsFunc(before, func(o hsm.Object) bool {
		return hsm.SameObjects([]hsm.Object{o}, []hsm.Object{object})
	})
}
