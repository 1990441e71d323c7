package pkcs11

// The key table: what the request path knows of the keys on the token, by label
// and version. Looking a key up costs the same with one key and with 10,000.

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

// entry is what stands on the token under one label and version.
type entry struct {
	handle  uint
	logins  uint64 // login.count under which the handle is good: after another login it may be another key's
	object  hsm.Object
	twins   []listed // all of them, if there is more than one secret key
	checked time.Time
}

// refuses says why the key cannot be used for this, nil if it can.
func (e *entry) refuses(need hsm.Usage) error {
	switch {
	case len(e.twins) > 0:
		return &hsm.Error{Kind: hsm.ErrDuplicateKey, Detail: describeTwins(e.twins)}
	case !e.object.IsAES256():
		return &hsm.Error{Kind: hsm.ErrKeyUsage, Detail: fmt.Sprintf("key %q is %s, only AES_256 can be used", e.object.Label, e.object.Spec())}
	case e.object.Usage&need != need:
		return &hsm.Error{Kind: hsm.ErrKeyUsage, Detail: fmt.Sprintf("key %q has %s", e.object.Label, lacking(e.object.Usage, need))}
	}
	return nil
}

func lacking(has, need hsm.Usage) string {
	if need&^has&hsm.CanEncrypt != 0 {
		return "CKA_ENCRYPT = false, or its CKA_ALLOWED_MECHANISMS lack AES-GCM"
	}
	return "CKA_DECRYPT = false, or its CKA_ALLOWED_MECHANISMS lack AES-GCM"
}

func describeTwins(twins []listed) string {
	parts := make([]string, len(twins))
	for i, one := range twins {
		parts[i] = fmt.Sprintf("handle %d with CKA_ID 0x%X", one.handle, one.object.ID)
	}
	first := twins[0].object
	return fmt.Sprintf("label %q, version %d: %s; delete or relabel all but one", first.Label, first.Version(), strings.Join(parts, ", "))
}

// table may be used by many goroutines at once.
type table struct {
	rule    hsm.VersionRule // how versions are read
	mu      sync.RWMutex
	byLabel map[string]map[uint32]*entry // an entry never changes once it is in
	newer   map[string]bool              // labels looked at since the listing under way began; nil: none is
}

func (t *table) get(key hsm.KeyRef) (*entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e, ok := t.byLabel[key.Label][key.Version]
	return e, ok
}

// readers gives the objects that may have made a ciphertext of a version; see readersOf.
func (t *table) readers(key hsm.KeyRef) []reader {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return readersOf(t.byLabel[key.Label], key.Version)
}

// newest gives the highest version of a label that can encrypt and decrypt.
func (t *table) newest(label string) (hsm.KeyRef, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ref, found := hsm.KeyRef{Label: label}, false
	for version, e := range t.byLabel[label] {
		if e.refuses(hsm.CanEncrypt|hsm.CanDecrypt) == nil && (!found || version > ref.Version) {
			ref.Version, found = version, true
		}
	}
	return ref, found
}

// forget drops a handle that the token no longer takes.
func (t *table) forget(key hsm.KeyRef, handle uint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for version, e := range t.byLabel[key.Label] {
		isTwin := slices.ContainsFunc(e.twins, func(one listed) bool { return one.handle == handle })
		if e.handle == handle || isTwin {
			delete(t.byLabel[key.Label], version)
		}
	}
}

// begin is for the start of a listing of the whole token.
func (t *table) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newer = map[string]bool{}
}

// end is for a listing that failed.
func (t *table) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newer = nil
}

// replaceAll is for a listing of the whole token. What was found live since it began is newer, and
// stays.
func (t *table) replaceAll(found []listed) {
	byLabel := t.index(found)
	t.mu.Lock()
	defer t.mu.Unlock()
	for label := range t.newer {
		delete(byLabel, label)
		if versions, ok := t.byLabel[label]; ok {
			byLabel[label] = versions
		}
	}
	t.byLabel, t.newer = byLabel, nil
}

// replaceLabel is for what was found under one label.
func (t *table) replaceLabel(label string, versions map[uint32]*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, known := t.byLabel[label]
	if t.newer != nil && (known || len(versions) > 0) {
		t.newer[label] = true
	}
	delete(t.byLabel, label)
	if len(versions) == 0 {
		return
	}
	if t.byLabel == nil {
		t.byLabel = map[string]map[uint32]*entry{}
	}
	t.byLabel[label] = maps.Clone(versions)
}

// byHandle gives the object that had this handle since this login, as it was read last.
func (t *table) byHandle(handle uint, logins uint64) (hsm.Object, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, versions := range t.byLabel {
		for _, e := range versions {
			if e.handle == handle && e.logins == logins && len(e.twins) == 0 {
				return e.object, true
			}
		}
	}
	return hsm.Object{}, false
}

// index sorts objects by label and version, which it reads by the table's rule. An AES-256
// key goes before other secret keys, which no request can mean, and these before the halves of
// a key pair, which commonly share label and CKA_ID with each other. Two of the best kind in
// one place are twins, unless they are halves.
func (t *table) index(found []listed) map[string]map[uint32]*entry {
	now := time.Now()
	byLabel := map[string]map[uint32]*entry{}
	for i := range found {
		found[i].object = found[i].object.ReadBy(t.rule)
		if found[i].object.Unreadable != nil {
			continue
		}
		one := found[i]
		label, version := one.object.Label, one.object.Version()
		versions, ok := byLabel[label]
		if !ok {
			versions = map[uint32]*entry{}
			byLabel[label] = versions
		}
		e, ok := versions[version]
		switch {
		case !ok || rank(one.object) > rank(e.object):
			versions[version] = one.entry(now)
		case rank(one.object) < rank(e.object):
		case len(e.twins) > 0:
			e.twins = append(e.twins, one)
		case one.object.Class == hsm.SecretKey:
			e.twins = []listed{{handle: e.handle, logins: e.logins, object: e.object}, one}
		}
	}
	return byLabel
}

// rank says which of several objects in one place is meant.
func rank(o hsm.Object) int {
	switch {
	case o.IsAES256():
		return 2
	case o.Class == hsm.SecretKey:
		return 1
	}
	return 0
}

func (l listed) entry(checked time.Time) *entry {
	return &entry{handle: l.handle, logins: l.logins, object: l.object, checked: checked}
}
