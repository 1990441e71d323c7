package hsm

// What it means that a key fails on one HSM while that HSM works: the key is set aside there, or
// the HSM is known to refuse a usage that the attributes allow (requirement R7).

import (
	"errors"
	"maps"
	"time"
)

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
