package catalogue

// Which keys of an HSM may be used after its token changed. A token that was replaced, or whose key
// objects changed while it was away, may hold other material under the same labels. It serves no
// key before that key was compared with another HSM (requirement R6).

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"xks-proxy/pkg/hsm"
)

// Trust records which key copies of one HSM may be used. The zero value trusts all. It is safe for
// concurrent use.
type Trust struct {
	Limited atomic.Bool // read by every request; the rest only where this is set

	mu         sync.Mutex
	all        bool                // only what is in verified may be used
	verified   map[hsm.KeyRef]bool // with all
	distrusted map[hsm.KeyRef]bool // without all: these may not be used
	reason     string              // for the operator
}

// Clone returns a copy for another token with the same name: results for one token do not apply to
// the other.
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

// DistrustAll stops trusting any key.
func (t *Trust) DistrustAll(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all, t.verified, t.distrusted = true, map[hsm.KeyRef]bool{}, nil
	t.reason = reason
	t.Limited.Store(true)
}

// Distrust stops trusting these versions.
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

// Verify trusts a version that was compared, or that has decrypted what another HSM encrypted.
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

// Release ends all limits if every version that the HSM holds was verified. It reports whether it
// did.
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

// Reason returns why some keys are not trusted, or "".
func (t *Trust) Reason() string {
	if !t.Limited.Load() {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// ContainsObject reports whether the list contains the same object.
func ContainsObject(before []hsm.Object, object hsm.Object) bool {
	return slices.ContainsFunc(before, func(o hsm.Object) bool {
		return hsm.SameObjects([]hsm.Object{o}, []hsm.Object{object})
	})
}
