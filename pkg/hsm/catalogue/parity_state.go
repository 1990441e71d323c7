package catalogue

// The parity state of a group: current findings with the time they were first seen, the versions
// that were once on every HSM, and those whose material differs. It is not safe for concurrent use:
// the group guards it with a lock.

import (
	"maps"
	"slices"
	"time"

	"xks-proxy/pkg/hsm"
)

// Parity is what is known about differences between the HSMs of a group.
type Parity struct {
	hsms    []string // names; bit i of a Set is hsms[i]
	testKey string   // each HSM has its own key under this label
	lostKey LostKey

	Away        Set                  // HSMs that could not be listed at the last attempt
	QuickToList Set                  // HSMs whose last listing was fast
	Listing     Set                  // the HSM whose listing is being processed
	Detected    map[string][]Finding // differences by label, from the current objects

	candidates map[findingID]*candidate // all differences, reported or not
	Findings   []Finding                // reported, sorted; a new slice at each change

	WasComplete map[string][]uint32         // by label: versions that were on every HSM
	Diverged    map[hsm.KeyRef]Finding      // versions with different material
	Mismatched  map[hsm.KeyRef]Finding      // copies that differ and are not used
	Failing     map[hsm.KeyRef]Finding      // keys that fail on a working HSM
	Refused     map[hsm.KeyRef]RefusedUsage // refused although the attributes allow it
	Unsaved     bool                        // not in the state directory yet
}

// candidate is a difference that may exist only because one HSM was listed before the other. It
// becomes a finding once every HSM was listed again, or failed to be.
type candidate struct {
	since   time.Time
	waiting Set // members not listed since
}

// quickListing is how long a listing may take to be repeated out of turn.
const quickListing = 100 * time.Millisecond

// NewParity takes the names of the HSMs in the order of the group.
func NewParity(hsms []string, testKey string, lostKey LostKey) *Parity {
	return &Parity{
		hsms: hsms, testKey: testKey, lostKey: lostKey,
		Detected:    map[string][]Finding{},
		candidates:  map[findingID]*candidate{},
		WasComplete: map[string][]uint32{},
		Diverged:    map[hsm.KeyRef]Finding{},
		Mismatched:  map[hsm.KeyRef]Finding{},
		Failing:     map[hsm.KeyRef]Finding{},
		Refused:     map[hsm.KeyRef]RefusedUsage{},
	}
}

// All returns the set of all HSMs.
func (p *Parity) All() Set { return 1<<len(p.hsms) - 1 }

// Record annotates the versions of a new key and remembers those that are on every HSM. A version
// counts only if every HSM of the group was seen with it.
func (p *Parity) Record(key *Key) {
	p.Annotate(key)
	if len(p.hsms) < 2 || key.required != p.All() || key.Label == p.testKey {
		return
	}
	once := p.WasComplete[key.Label]
	for i := range key.versions {
		v := &key.versions[i]
		if v.Usable() != key.required || v.diverged || slices.Contains(once, v.number) {
			continue
		}
		once = slices.Sorted(
			slices.Values(slices.Concat(once, []uint32{v.number})),
		) // a new slice: the old one may be being written
		p.WasComplete[key.Label] = once
		p.Unsaved = true
	}
}

// Annotate marks the versions of a key that differ, fail, are refused or are lost. No other
// goroutine may use the key yet.
func (p *Parity) Annotate(key *Key) {
	for i := range key.versions {
		v := &key.versions[i]
		finding, ok := p.Diverged[hsm.KeyRef{Label: key.Label, Version: v.number}]
		v.diverged = ok && (v.Holders&p.SetOf(finding.HSMs)).Size() > 1
		_, estranged := p.Mismatched[hsm.KeyRef{Label: key.Label, Version: v.number}]
		_, failing := p.Failing[hsm.KeyRef{Label: key.Label, Version: v.number}]
		v.faulty = estranged || failing
		v.refused = p.Refused[hsm.KeyRef{Label: key.Label, Version: v.number}].Usage
		key.Usage &^= v.refused
		key.Refused = key.Refused || v.refused != 0
		v.lost = p.lostKey == LostKeyEncrypt && v.Usable() != key.required &&
			slices.Contains(p.WasComplete[key.Label], v.number)
	}
}

// SetOf returns the set of the HSMs with these names.
func (p *Parity) SetOf(hsms []string) Set {
	var set Set
	for i, name := range p.hsms {
		if slices.Contains(hsms, name) {
			set |= 1 << i
		}
	}
	return set
}

// NamesOf is the inverse of SetOf.
func (p *Parity) NamesOf(set Set) []string {
	var list []string
	for i, name := range p.hsms {
		if set&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// Prune forgets versions that no HSM holds any more: a new key with that name is another key.
func (p *Parity) Prune(next *Catalogue) {
	if next.Unknown != 0 {
		return // an HSM that was never listed may hold it
	}
	for label, once := range p.WasComplete {
		key := next.Keys[label]
		if key != nil &&
			!slices.ContainsFunc(
				once,
				func(number uint32) bool { return key.Version(number) == nil },
			) {
			continue
		}
		left := slices.DeleteFunc(
			slices.Clone(once),
			func(number uint32) bool { return key == nil || key.Version(number) == nil },
		)
		p.WasComplete[label] = left
		if len(left) == 0 {
			delete(p.WasComplete, label)
		}
		p.Unsaved = true
	}
	isGone := func(ref hsm.KeyRef, _ Finding) bool {
		key := next.Keys[ref.Label]
		return key == nil || key.Version(ref.Version) == nil
	}
	maps.DeleteFunc(p.Mismatched, isGone)
	maps.DeleteFunc(p.Failing, isGone)
	for ref := range p.Diverged {
		if key := next.Keys[ref.Label]; key == nil || key.Version(ref.Version) == nil {
			delete(p.Diverged, ref)
			p.Unsaved = true
		}
	}
}

// CompareViews records how the HSMs differ under a label. The test key is not compared: each HSM
// has its own.
func (p *Parity) CompareViews(label string, views []View) {
	if label == p.testKey {
		return
	}
	found := append(compare(label, views, p.WasComplete[label]), doubtfulVersions(label, views)...)
	if len(found) > 0 {
		p.Detected[label] = found
	}
}

// UpdateFindings turns candidates into findings and removes those that are over. It reports whether
// there are new candidates, for which the HSMs have to be listed again.
func (p *Parity) UpdateFindings(c *Catalogue, now time.Time) bool {
	candidates := make(map[findingID]*candidate, len(p.candidates))
	var standing []Finding
	fresh := false
	for _, found := range p.Detected {
		for _, finding := range found {
			id := finding.id()
			known := p.candidates[id]
			if known == nil {
				known = &candidate{since: now, waiting: p.All() &^ p.Away &^ p.Listing}
				fresh = true
			}
			candidates[id] = known
			if known.waiting == 0 {
				finding.Since = known.since
				standing = append(standing, finding)
			}
		}
	}
	p.candidates = candidates
	for ref, finding := range p.Diverged {
		if c.IsDiverged(ref) {
			standing = append(standing, finding)
		}
	}
	for _, more := range []map[hsm.KeyRef]Finding{p.Mismatched, p.Failing} {
		for ref, finding := range more {
			if key := c.Keys[ref.Label]; key != nil && key.Version(ref.Version) != nil {
				standing = append(standing, finding)
			}
		}
	}
	slices.SortFunc(standing, CompareFindings)
	p.Findings = standing
	return fresh
}

// ListingDone resolves candidates after a listing of one HSM that began at a time, and possibly
// failed. It reports whether the HSM has to be listed again, and whether UpdateFindings has to run.
func (p *Parity) ListingDone(hsm Set, began time.Time, err error) (bool, bool) {
	waiting, settled := false, false
	for _, c := range p.candidates {
		if c.waiting&hsm != 0 && (err != nil || !began.Before(c.since)) {
			c.waiting &^= hsm
			settled = settled || c.waiting == 0
		}
		waiting = waiting || c.waiting&hsm != 0
	}
	return waiting, settled
}

// RecordListing records the time and result of a listing. It reports whether an HSM went away or
// returned.
func (p *Parity) RecordListing(hsm Set, took time.Duration, err error) bool {
	p.QuickToList &^= hsm
	if took <= quickListing {
		p.QuickToList |= hsm
	}
	away := p.Away &^ hsm
	if err != nil {
		away |= hsm
	}
	changed := away != p.Away
	p.Away = away
	return changed
}

// RefusedUsage is what HSMs refuse to do with a key although its attributes allow it.
type RefusedUsage struct {
	Usage hsm.Usage
	At    time.Time
}

// LostKey is the policy for a key version that was on every HSM and is now missing on one, while no
// other version is on all of them.
type LostKey string

// The policies for a lost key version.
const (
	// LostKeyEncrypt continues with the HSMs that hold it, as if the other were down (R1).
	LostKeyEncrypt LostKey = "encrypt"
	// LostKeyRefuse stops encrypting under it until every HSM holds it again.
	LostKeyRefuse LostKey = "refuse"
)
