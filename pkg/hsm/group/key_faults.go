package group

// Keys that fail on an HSM which works otherwise, and usages that an HSM refuses although the
// attributes allow them (requirement R7).

import (
	"errors"
	"maps"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// keyFailed opens the breaker of a key on one HSM.
func (g *Group) keyFailed(m *member, ref hsm.KeyRef, err error) {
	m.keyFaults.Add(1)
	if !m.keyBreaker.Fail(ref, time.Now()) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parity.Failing[ref] = g.failingFinding(ref, err)
	g.rebuildOne(ref.Label)
}

// keySucceeded closes it.
func (g *Group) keySucceeded(m *member, ref hsm.KeyRef) {
	if !m.keyBreaker.Succeed(ref) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	finding := g.failingFinding(ref, nil)
	if len(finding.HSMs) == 0 {
		delete(g.parity.Failing, ref)
	} else {
		finding.Detail, finding.Since = g.parity.Failing[ref].Detail, g.parity.Failing[ref].Since
		g.parity.Failing[ref] = finding
	}
	g.rebuildOne(ref.Label)
}

// failingFinding names the HSMs on which a key fails. Requires Group.mu.
func (g *Group) failingFinding(ref hsm.KeyRef, err error) catalogue.Finding {
	var set catalogue.Set
	for _, m := range g.members {
		if m.keyBreaker.IsFailing(ref) {
			set |= m.bit
		}
	}
	f := catalogue.Finding{
		Kind:    catalogue.KeyFails,
		Label:   ref.Label,
		Version: ref.Version,
		HSMs:    g.parity.NamesOf(set),
		Since:   time.Now(),
	}
	if err != nil {
		f.Detail = "the HSM works but this key does not (" + err.Error() +
			"): check the attributes and the state of the key on the HSM"
	}
	return f
}

// recordKeyResult records what the result of a call says about the key alone.
func (g *Group) recordKeyResult(m *member, ref hsm.KeyRef, need hsm.Usage, err error) {
	switch {
	case err == nil:
		if need == hsm.CanDecrypt {
			m.trust.Verify(ref)
		}
		g.keySucceeded(m, ref)
		g.clearRefusedUsage(ref, need)
	case errors.Is(err, hsm.ErrKeyFault):
		g.keyFailed(m, ref, err)
	case errors.Is(err, hsm.ErrUnprovenCiphertext):
		m.unproven.Add(1)
	}
}

// refusedUsageTTL is how long a refusal is remembered: a change on the HSM is not announced.
const refusedUsageTTL = time.Minute

// recordRefusedUsage records that an HSM refuses an operation that the key's attributes allow, so
// that GetKeyMetadata reports the real usage (requirement K1). Requests still try the HSM.
func (g *Group) recordRefusedUsage(m *member, ref hsm.KeyRef, need hsm.Usage, err error) {
	if !errors.Is(err, hsm.ErrKeyUsage) {
		return
	}
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil {
		return
	}
	v := key.Version(ref.Version)
	if v == nil || v.Usage&need == 0 {
		return
	}
	wake(m.refresh) // its attributes may just have been changed
	g.mu.Lock()
	defer g.mu.Unlock()
	g.parity.Refused[ref] = catalogue.RefusedUsage{
		Usage: g.parity.Refused[ref].Usage | need,
		At:    time.Now(),
	}
	g.rebuildOne(ref.Label)
}

// clearRefusedUsage forgets a refusal after the operation succeeded.
func (g *Group) clearRefusedUsage(ref hsm.KeyRef, need hsm.Usage) {
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil || !key.Refused {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parity.Refused[ref].Usage&need != 0 {
		delete(g.parity.Refused, ref)
		g.rebuildOne(ref.Label)
	}
}

// expireRefusedUsages forgets old refusals and reports whether there were any. Requires Group.mu.
func (g *Group) expireRefusedUsages(now time.Time) bool {
	before := len(g.parity.Refused)
	maps.DeleteFunc(
		g.parity.Refused,
		func(_ hsm.KeyRef, r catalogue.RefusedUsage) bool {
			return now.Sub(r.At) > refusedUsageTTL
		},
	)
	return len(g.parity.Refused) != before
}
