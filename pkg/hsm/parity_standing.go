package hsm

// What is known of the parity of a group's keys: which findings stand, and since when; which
// versions were once on every HSM; which are known to differ in their material. It is not safe for
// concurrent use: the group guards it. findings_log.go tells operators of it.

import (
	"maps"
	"slices"
	"time"
)

// parity is what is known of the differences between the HSMs of a group.
type parity struct {
	hsms    []string // names; the place is the bit in a memberSet
	testKey string   // its label: each HSM has its own
	lostKey LostKey

	away  memberSet            // HSMs whose keys could not be listed at the last try
	quick memberSet            // HSMs whose last listing took little of their time
	read  memberSet            // the HSM whose listing is being taken in
	found map[string][]Finding // by label, as the HSMs' objects are known now

	candidates map[findingID]*candidate // all that was found, told or not
	standing   []Finding                // that are told: sorted; a new slice at each change

	once      map[string][]uint32 // versions that were on every HSM, by label
	diverged  map[KeyRef]Finding  // versions with different material; ended by a comparison that succeeds
	estranged map[KeyRef]Finding  // copies that are not the key the others hold; they are not used
	failing   map[KeyRef]Finding  // keys that fail on an HSM that works
	refused   map[KeyRef]learned  // what HSMs refuse although the attributes allow it
	unsaved   bool                // once or diverged differ from what the state directory remembers
}

// candidate is a difference that may be only that one HSM was listed earlier than the
// other. It stands once every HSM has been listed, or has failed to be, after it was first seen.
type candidate struct {
	since   time.Time
	waiting memberSet // members not yet listed since
}

// quickListing is how long a listing may take that is repeated out of turn.
const quickListing = 100 * time.Millisecond

// newParity is for HSMs in the order of the group.
func newParity(hsms []string, testKey string, lostKey LostKey) *parity {
	return &parity{
		hsms: hsms, testKey: testKey, lostKey: lostKey,
		found:      map[string][]Finding{},
		candidates: map[findingID]*candidate{},
		once:       map[string][]uint32{},
		diverged:   map[KeyRef]Finding{},
		estranged:  map[KeyRef]Finding{},
		failing:    map[KeyRef]Finding{},
		refused:    map[KeyRef]learned{},
	}
}

// everyone is the set of all HSMs.
func (p *parity) everyone() memberSet { return 1<<len(p.hsms) - 1 }

// judge marks the versions of a new key that differ in material, and those that are lost, and notes
// those that are on every HSM.
//
// A version counts as once complete only if every HSM of the group was seen with it: one that was
// never seen proves nothing.
func (p *parity) judge(key *Key) {
	p.mark(key)
	if len(p.hsms) < 2 || key.complete != p.everyone() || key.Label == p.testKey {
		return
	}
	once := p.once[key.Label]
	for i := range key.versions {
		v := &key.versions[i]
		if v.usable() != key.complete || v.diverged || slices.Contains(once, v.number) {
			continue
		}
		once = slices.Sorted(slices.Values(slices.Concat(once, []uint32{v.number}))) // a new slice: the old may just be written
		p.once[key.Label] = once
		p.unsaved = true
	}
}

// mark marks the versions of a key that nobody uses yet.
func (p *parity) mark(key *Key) {
	for i := range key.versions {
		v := &key.versions[i]
		finding, ok := p.diverged[KeyRef{Label: key.Label, Version: v.number}]
		v.diverged = ok && (v.holders&p.set(finding.HSMs)).size() > 1
		_, estranged := p.estranged[KeyRef{Label: key.Label, Version: v.number}]
		_, failing := p.failing[KeyRef{Label: key.Label, Version: v.number}]
		v.spoilt = estranged || failing
		v.refused = p.refused[KeyRef{Label: key.Label, Version: v.number}].usage
		key.Usage &^= v.refused
		key.refused = key.refused || v.refused != 0
		v.lost = p.lostKey == LostKeyEncrypt && v.usable() != key.complete && slices.Contains(p.once[key.Label], v.number)
	}
}

// set is the place of the HSMs named.
func (p *parity) set(hsms []string) memberSet {
	var set memberSet
	for i, name := range p.hsms {
		if slices.Contains(hsms, name) {
			set |= 1 << i
		}
	}
	return set
}

// namesOf is the opposite of set.
func (p *parity) namesOf(set memberSet) []string {
	var list []string
	for i, name := range p.hsms {
		if set&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// forgetGone drops what is remembered of versions that no HSM holds any more: a key of that name that
// is made anew is another key.
func (p *parity) forgetGone(next *catalogue) {
	if next.unknown != 0 {
		return // an HSM that was never seen may hold it
	}
	for label, once := range p.once {
		key := next.keys[label]
		if key != nil && !slices.ContainsFunc(once, func(number uint32) bool { return key.version(number) == nil }) {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(once), func(number uint32) bool { return key == nil || key.version(number) == nil })
		p.once[label] = left
		if len(left) == 0 {
			delete(p.once, label)
		}
		p.unsaved = true
	}
	isGone := func(ref KeyRef, _ Finding) bool {
		key := next.keys[ref.Label]
		return key == nil || key.version(ref.Version) == nil
	}
	maps.DeleteFunc(p.estranged, isGone)
	maps.DeleteFunc(p.failing, isGone)
	for ref := range p.diverged {
		if key := next.keys[ref.Label]; key == nil || key.version(ref.Version) == nil {
			delete(p.diverged, ref)
			p.unsaved = true
		}
	}
}

// compareViews notes in what the HSMs differ under a label. The test key is each HSM's own.
func (p *parity) compareViews(label string, views []view) {
	if label == p.testKey {
		return
	}
	found := append(compare(label, views, p.once[label]), doubts(label, views)...)
	if len(found) > 0 {
		p.found[label] = found
	}
}

// settle decides which findings stand. It reports whether there are new ones, for which the HSMs
// have to be listed again.
func (p *parity) settle(c *catalogue, now time.Time) bool {
	candidates := make(map[findingID]*candidate, len(p.candidates))
	var standing []Finding
	fresh := false
	for _, found := range p.found {
		for _, finding := range found {
			id := finding.id()
			known := p.candidates[id]
			if known == nil {
				known = &candidate{since: now, waiting: p.everyone() &^ p.away &^ p.read}
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
	for ref, finding := range p.diverged {
		if c.isDiverged(ref) {
			standing = append(standing, finding)
		}
	}
	for _, more := range []map[KeyRef]Finding{p.estranged, p.failing} {
		for ref, finding := range more {
			if key := c.keys[ref.Label]; key != nil && key.version(ref.Version) != nil {
				standing = append(standing, finding)
			}
		}
	}
	slices.SortFunc(standing, byPlace)
	p.standing = standing
	return fresh
}

// listed is what a listing of one HSM that began at a moment, and its failure, mean for what may be
// only a matter of time. The results are whether the HSM has to be listed once more, and whether
// settle has to decide.
func (p *parity) listed(hsm memberSet, began time.Time, err error) (bool, bool) {
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

// tookPart notes how a listing of one HSM went. It reports whether that changes which HSMs are away.
func (p *parity) tookPart(hsm memberSet, took time.Duration, err error) bool {
	p.quick &^= hsm
	if took <= quickListing {
		p.quick |= hsm
	}
	away := p.away &^ hsm
	if err != nil {
		away |= hsm
	}
	changed := away != p.away
	p.away = away
	return changed
}

// learned is what HSMs refuse to do with a key although its attributes allow it.
type learned struct {
	usage Usage
	at    time.Time
}

// LostKey is what becomes of a key version that was once on every HSM of the
// group and is now gone from one, while no other version is on all of them.
type LostKey string

// The ways to treat a lost key version.
const (
	// LostKeyEncrypt goes on with the HSMs that hold it, as if the other were down (R1).
	LostKeyEncrypt LostKey = "encrypt"
	// LostKeyRefuse does not encrypt under it until every HSM holds it again.
	LostKeyRefuse LostKey = "refuse"
)
