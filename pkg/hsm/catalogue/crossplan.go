package catalogue

// Which key version's material is compared next: those that were never compared first, then those that gave no
// verdict or a bad one, in turn with all others, forever.

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	// crossAgain is until a version is compared again that gave no verdict, or a bad one.
	crossAgain = 10 * time.Second
	maxDoubted = 4096 // labels
	// crossRound is at least between two comparisons of a version that is well: each uses up one IV.
	crossRound = time.Minute
)

// Comparisons is the state of the comparisons of a group. The zero value is ready.
type Comparisons struct {
	mu      sync.Mutex
	renewed map[string]Set       // labels whose objects have changed on these since the plan was made
	joined  Set                  // members that have joined, or joined anew, since
	hurried bool                 // a label was doubted since
	doubted map[string]time.Time // labels that are suspected to differ: when that was last said

	from  *Catalogue // of which the plan was made
	up    Set        // with these in service
	began time.Time  // the round

	versions map[hsm.KeyRef]*crossing
	first    []*crossing // not yet compared on every HSM that is in service
	again    []*crossing // to be compared again when they are due, in this order
	round    []*crossing // all others that were not compared in this round
	aside    bool        // the next comes from round, even if one of again is due

	checked uint64
	pending int // versions that were not compared on all HSMs which can take part
	unable  int // versions on several HSMs whose usage allows no comparison
}

// crossing is what is known of one version.
type crossing struct {
	ref      hsm.KeyRef
	wanted   Set // can be compared with another
	compared Set // have been, since their objects last changed
	agreed   Set // of these, with another
	diverged bool
	doubted  bool
	turns    int
	last     time.Time // of the last comparison that was tried
	due      time.Time // of the next; zero: when its turn comes
}

func (c *crossing) isPending() bool { return c.wanted&^c.compared != 0 }

// Renew has keys compared again whose objects have changed on a member.
func (c *Comparisons) Renew(bit Set, labels []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewed == nil {
		c.renewed = map[string]Set{}
	}
	for _, label := range labels {
		c.renewed[label] |= bit
	}
}

// Rejoin has every key of a member compared again: nothing is known of its token any more.
func (c *Comparisons) Rejoin(bit Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined |= bit
}

// IsCompared reports whether a version was compared on a member since it joined, and agreed.
func (c *Comparisons) IsCompared(ref hsm.KeyRef, bit Set) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	return v != nil && v.agreed&bit != 0 && (c.joined|c.renewed[ref.Label])&bit == 0
}

// Doubt puts a label before all others, if that was not done just now. Requests call it.
func (c *Comparisons) Doubt(label string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.doubted[label]) < crossAgain {
		return
	}
	if c.doubted == nil || len(c.doubted) >= maxDoubted {
		c.doubted = map[string]time.Time{}
	}
	c.doubted[label] = now
	c.hurried = true
}

// Stats are how many comparisons had a result, and how many versions wait for their first.
func (c *Comparisons) Stats() (uint64, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checked, c.pending
}

// Turn counts the comparisons of a version, so that each HSM encrypts in its turn.
func (c *Comparisons) Turn(ref hsm.KeyRef) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	v.turns++
	return v.turns
}

// Choose is the version to compare now among the HSMs that are up, if there is any. It also returns
// how many versions cannot be compared, and whether that has changed.
func (c *Comparisons) Choose(from *Catalogue, up Set, testKey string, now time.Time) (hsm.KeyRef, bool, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	newRound := len(c.round) == 0 && now.Sub(c.began) >= crossRound
	if newRound {
		c.began = now
	}
	before := c.unable
	if newRound || from != c.from || up != c.up || len(c.renewed) > 0 || c.joined != 0 || c.hurried {
		c.plan(from, up, testKey)
	}
	changed := c.unable != before
	if up.Size() < 2 {
		return hsm.KeyRef{}, false, c.unable, changed
	}
	next := c.next(now)
	if next == nil {
		return hsm.KeyRef{}, false, c.unable, changed
	}
	return next.ref, true, c.unable, changed
}

// plan makes the lists anew.
func (c *Comparisons) plan(catalogue *Catalogue, up Set, testKey string) {
	known := c.versions
	for ref, v := range known {
		anew := c.joined | c.renewed[ref.Label]
		v.compared &^= anew
		v.agreed &^= anew
		if anew != 0 || up != c.up && v.agreed == 0 { // what gave no verdict may give one now
			v.due = time.Time{}
		}
	}
	c.from, c.up, c.renewed, c.joined, c.hurried = catalogue, up, nil, 0, false
	c.versions = make(map[hsm.KeyRef]*crossing, len(known))
	c.first, c.again, c.round = nil, nil, nil
	c.pending, c.unable = 0, 0
	for label, key := range catalogue.Keys {
		if label == testKey {
			continue
		}
		for i := range key.versions {
			v := &key.versions[i]
			if v.Holders.Size() < 2 || v.ambiguous != 0 {
				continue
			}
			wanted := crossable(v)
			if wanted == 0 {
				c.unable++
				continue
			}
			ref := hsm.KeyRef{Label: label, Version: v.number}
			version := known[ref]
			if version == nil {
				version = &crossing{ref: ref}
			}
			version.wanted, version.diverged = wanted, v.diverged
			version.doubted = version.last.Before(c.doubted[label])
			c.versions[ref] = version
			c.enlist(version)
		}
	}
	slices.SortFunc(c.first, byUrgency)
	slices.SortFunc(c.again, byUrgency)
	slices.SortFunc(c.round, byUrgency)
}

// crossable are the holders of a version that can encrypt for another or decrypt what another encrypted.
func crossable(v *Version) Set {
	var wanted Set
	switch v.Decrypters.Size() {
	case 0:
	case 1:
		wanted |= v.Encrypters &^ v.Decrypters
	default:
		wanted |= v.Encrypters
	}
	switch v.Encrypters.Size() {
	case 0:
	case 1:
		wanted |= v.Decrypters &^ v.Encrypters
	default:
		wanted |= v.Decrypters
	}
	return wanted
}

// enlist puts a version into the list where it belongs.
func (c *Comparisons) enlist(v *crossing) {
	if v.isPending() {
		c.pending++
	}
	switch {
	case (v.wanted & c.up).Size() < 2: // no list: the plan is made anew when an HSM comes back
	case v.doubted:
		c.first = append(c.first, v)
	case !v.due.IsZero():
		c.again = append(c.again, v)
	case v.wanted&^v.compared&c.up != 0:
		c.first = append(c.first, v)
	case v.last.Before(c.began):
		c.round = append(c.round, v)
	}
}

// byUrgency: what is due first, what is known to differ, what was compared longest ago.
func byUrgency(a, b *crossing) int {
	return cmp.Or(a.due.Compare(b.due), cmp.Compare(rank(b), rank(a)), a.last.Compare(b.last), cmp.Compare(a.ref.Label, b.ref.Label), cmp.Compare(a.ref.Version, b.ref.Version))
}

func rank(v *crossing) int {
	switch {
	case v.doubted:
		return 2
	case v.diverged:
		return 1
	}
	return 0
}

// next takes from the lists. Where some have to be compared again and again, the others still have every second turn.
func (c *Comparisons) next(now time.Time) *crossing {
	isDue := len(c.again) > 0 && !c.again[0].due.After(now)
	switch {
	case len(c.first) > 0:
		return take(&c.first)
	case isDue && (len(c.round) == 0 || !c.aside):
		c.aside = true
		return take(&c.again)
	case len(c.round) > 0:
		c.aside = false
		return take(&c.round)
	}
	return nil
}

func take(list *[]*crossing) *crossing {
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

// Done notes the result of a comparison: of which HSMs something was found out, and whether some differ.
func (c *Comparisons) Done(ref hsm.KeyRef, compared, agreed Set, differ bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	was := v.isPending()
	v.last, v.due, v.doubted = now, time.Time{}, false
	v.compared |= compared
	v.agreed = v.agreed&^compared | agreed
	if compared != 0 {
		c.checked++
	}
	if was && !v.isPending() {
		c.pending--
	}
	if differ || compared == 0 || v.wanted&^v.compared&c.up != 0 {
		v.due = now.Add(crossAgain)
		c.again = append(c.again, v)
	}
}
