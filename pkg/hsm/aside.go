package hsm

// Keys that fail on one HSM while that HSM works (ErrKeyFault). The key is set aside there, alone:
// other HSMs are asked first for it, and the HSM keeps serving everything else (requirement R7).

import (
	"errors"
	"maps"
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

// keyFault sets a key aside on one HSM.
func (g *Group) keyFault(m *member, ref KeyRef, err error) {
	m.keyFaults.Add(1)
	if !m.aside.add(ref, time.Now()) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parity.failing[ref] = g.failingFinding(ref, err)
	g.rebuildOne(ref.Label)
}

// keyWorks ends what keyFault began.
func (g *Group) keyWorks(m *member, ref KeyRef) {
	if !m.aside.clear(ref) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	finding := g.failingFinding(ref, nil)
	if len(finding.HSMs) == 0 {
		delete(g.parity.failing, ref)
	} else {
		finding.Detail, finding.Since = g.parity.failing[ref].Detail, g.parity.failing[ref].Since
		g.parity.failing[ref] = finding
	}
	g.rebuildOne(ref.Label)
}

// failingFinding names the HSMs on which a key fails. Group.mu is held.
func (g *Group) failingFinding(ref KeyRef, err error) Finding {
	var set memberSet
	for _, m := range g.members {
		if m.aside.fails(ref) {
			set |= m.bit
		}
	}
	f := Finding{Kind: KeyFails, Label: ref.Label, Version: ref.Version, HSMs: g.parity.namesOf(set), Since: time.Now()}
	if err != nil {
		f.Detail = "the HSM works and this key does not (" + err.Error() + "): look at the key on the HSM, its attributes and its state"
	}
	return f
}

// noteKey takes note of what the result of a call says of the key alone.
func (g *Group) noteKey(m *member, ref KeyRef, need Usage, err error) {
	switch {
	case err == nil:
		if need == CanDecrypt {
			m.trust.verify(ref)
		}
		g.keyWorks(m, ref)
		g.unlearnUsage(ref, need)
	case errors.Is(err, ErrKeyFault):
		g.keyFault(m, ref, err)
	case errors.Is(err, ErrUnprovenCiphertext):
		m.unproven.Add(1)
	}
}

// learned is what HSMs refuse to do with a key although its attributes allow it.
type learned struct {
	usage Usage
	at    time.Time
}

// usageHolds is how long a refusal is believed: whoever changes the key on the HSM need not tell.
const usageHolds = time.Minute

// learnUsage takes note that an HSM refuses a key for an operation that its attributes allow, so
// that GetKeyMetadata tells the truth (requirement K1). The HSM is asked all the same.
func (g *Group) learnUsage(m *member, ref KeyRef, need Usage, err error) {
	if !errors.Is(err, ErrKeyUsage) {
		return
	}
	key := g.catalogue.Load().keys[ref.Label]
	if key == nil {
		return
	}
	v := key.version(ref.Version)
	if v == nil || v.usage&need == 0 {
		return
	}
	nudge(m.refresh) // its attributes may just have been changed
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parity.refused[ref] = learned{usage: g.parity.refused[ref].usage | need, at: time.Now()}
	g.rebuildOne(ref.Label)
}

// unlearnUsage ends that when the operation succeeds.
func (g *Group) unlearnUsage(ref KeyRef, need Usage) {
	key := g.catalogue.Load().keys[ref.Label]
	if key == nil || !key.refused {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parity.refused[ref].usage&need != 0 {
		delete(g.parity.refused, ref)
		g.rebuildOne(ref.Label)
	}
}

// relearn forgets old refusals. It reports whether there were any. Group.mu is held.
func (g *Group) relearn(now time.Time) bool {
	before := len(g.parity.refused)
	maps.DeleteFunc(g.parity.refused, func(_ KeyRef, l learned) bool { return now.Sub(l.at) > usageHolds })
	return len(g.parity.refused) != before
}
