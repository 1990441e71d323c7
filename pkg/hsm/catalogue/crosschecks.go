package catalogue

// The order of cross-checks: which key version has its material compared next. Versions that were
// never compared come first. Versions without a result, or with a bad one, are retried in
// alternation with the routine round over all others, which never ends.

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

const (
	// retryAfter is the wait before a version without a result, or with a bad one, is compared
	// again.
	retryAfter     = 10 * time.Second
	maxPrioritised = 4096 // labels
	// minRound is the shortest time between two routine comparisons of a version: each uses an IV.
	minRound = time.Minute
)

// CrossChecks schedules the cross-checks of a group. The zero value is ready to use. It is safe for
// concurrent use.
type CrossChecks struct {
	mu            sync.Mutex
	changed       map[string]Set       // where objects changed since the last plan, by label
	joined        Set                  // members that joined since the last plan
	reprioritised bool                 // a label was prioritised since the last plan
	prioritised   map[string]time.Time // when a label was last prioritised

	catalogue *Catalogue // that the plan is for
	up        Set        // members in service in the plan
	began     time.Time  // start of the routine round

	versions    map[hsm.KeyRef]*crossCheck
	urgent      []*crossCheck // not compared yet on every HSM in service
	retries     []*crossCheck // ordered by due time
	routine     []*crossCheck // not compared yet in this round
	routineNext bool          // routine has the next turn, even if a retry is due

	checked      uint64
	pending      int // versions not compared yet on all HSMs that can take part
	incomparable int // versions on several HSMs whose usage allows no comparison
}

// crossCheck is the state of one key version.
type crossCheck struct {
	ref         hsm.KeyRef
	comparable  Set // members that can be compared
	compared    Set // members with a result since their objects last changed
	agreed      Set // of these, members that agreed with another
	diverged    bool
	prioritised bool
	runs        int
	last        time.Time // last attempt
	due         time.Time // next attempt; zero if it waits for its turn
}

func (c *crossCheck) isPending() bool { return c.comparable&^c.compared != 0 }

// Invalidate schedules new comparisons for labels whose objects have changed on a member.
func (c *CrossChecks) Invalidate(bit Set, labels []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = map[string]Set{}
	}
	for _, label := range labels {
		c.changed[label] |= bit
	}
}

// InvalidateMember schedules new comparisons for all keys of a member whose token may have changed.
func (c *CrossChecks) InvalidateMember(bit Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined |= bit
}

// IsCompared reports whether the member's copy of a version agreed in a comparison since the member
// joined.
func (c *CrossChecks) IsCompared(ref hsm.KeyRef, bit Set) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	return v != nil && v.agreed&bit != 0 && (c.joined|c.changed[ref.Label])&bit == 0
}

// Prioritise moves a label to the front, at most once every ten seconds. Requests call it.
func (c *CrossChecks) Prioritise(label string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.prioritised[label]) < retryAfter {
		return
	}
	if c.prioritised == nil || len(c.prioritised) >= maxPrioritised {
		c.prioritised = map[string]time.Time{}
	}
	c.prioritised[label] = now
	c.reprioritised = true
}

// Stats returns the number of comparisons with a result, and of versions that wait for their first.
func (c *CrossChecks) Stats() (uint64, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checked, c.pending
}

// CountRun counts the comparisons of a version and returns their number, so that each HSM encrypts
// in turn.
func (c *CrossChecks) CountRun(ref hsm.KeyRef) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	v.runs++
	return v.runs
}

// Next returns the version to compare now among the HSMs that are up, and whether there is one. It
// also returns how many versions cannot be compared and whether that number has changed.
func (c *CrossChecks) Next(
	from *Catalogue,
	up Set,
	testKey string,
	now time.Time,
) (hsm.KeyRef, bool, int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	newRound := len(c.routine) == 0 && now.Sub(c.began) >= minRound
	if newRound {
		c.began = now
	}
	before := c.incomparable
	if newRound || from != c.catalogue || up != c.up || len(c.changed) > 0 || c.joined != 0 ||
		c.reprioritised {
		c.plan(from, up, testKey)
	}
	changed := c.incomparable != before
	if up.Size() < 2 {
		return hsm.KeyRef{}, false, c.incomparable, changed
	}
	next := c.pop(now)
	if next == nil {
		return hsm.KeyRef{}, false, c.incomparable, changed
	}
	return next.ref, true, c.incomparable, changed
}

// plan rebuilds the three queues.
func (c *CrossChecks) plan(catalogue *Catalogue, up Set, testKey string) {
	known := c.versions
	for ref, v := range known {
		anew := c.joined | c.changed[ref.Label]
		v.compared &^= anew
		v.agreed &^= anew
		if anew != 0 || up != c.up && v.agreed == 0 { // may have a result now
			v.due = time.Time{}
		}
	}
	c.catalogue, c.up, c.changed, c.joined, c.reprioritised = catalogue, up, nil, 0, false
	c.versions = make(map[hsm.KeyRef]*crossCheck, len(known))
	c.urgent, c.retries, c.routine = nil, nil, nil
	c.pending, c.incomparable = 0, 0
	for label, key := range catalogue.Keys {
		if label == testKey {
			continue
		}
		for i := range key.versions {
			v := &key.versions[i]
			if v.Holders.Size() < 2 || v.ambiguous != 0 {
				continue
			}
			wanted := comparableMembers(v)
			if wanted == 0 {
				c.incomparable++
				continue
			}
			ref := hsm.KeyRef{Label: label, Version: v.number}
			version := known[ref]
			if version == nil {
				version = &crossCheck{ref: ref}
			}
			version.comparable, version.diverged = wanted, v.diverged
			version.prioritised = version.last.Before(c.prioritised[label])
			c.versions[ref] = version
			c.enqueue(version)
		}
	}
	slices.SortFunc(c.urgent, byUrgency)
	slices.SortFunc(c.retries, byUrgency)
	slices.SortFunc(c.routine, byUrgency)
}

// comparableMembers returns the holders that can encrypt for another holder, or decrypt what
// another encrypted.
func comparableMembers(v *Version) Set {
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

// enqueue puts a version into the queue that it belongs to.
func (c *CrossChecks) enqueue(v *crossCheck) {
	if v.isPending() {
		c.pending++
	}
	switch {
	case (v.comparable & c.up).Size() < 2: // not queued: the plan is rebuilt when an HSM comes back
	case v.prioritised:
		c.urgent = append(c.urgent, v)
	case !v.due.IsZero():
		c.retries = append(c.retries, v)
	case v.comparable&^v.compared&c.up != 0:
		c.urgent = append(c.urgent, v)
	case v.last.Before(c.began):
		c.routine = append(c.routine, v)
	}
}

// byUrgency orders by due time, then by urgency, then by the time of the last comparison.
func byUrgency(a, b *crossCheck) int {
	return cmp.Or(
		a.due.Compare(b.due),
		cmp.Compare(urgency(b), urgency(a)),
		a.last.Compare(b.last),
		cmp.Compare(a.ref.Label, b.ref.Label),
		cmp.Compare(a.ref.Version, b.ref.Version),
	)
}

func urgency(v *crossCheck) int {
	switch {
	case v.prioritised:
		return 2
	case v.diverged:
		return 1
	}
	return 0
}

// pop takes the next version. Retries get at most every second turn while routine comparisons wait.
func (c *CrossChecks) pop(now time.Time) *crossCheck {
	isDue := len(c.retries) > 0 && !c.retries[0].due.After(now)
	switch {
	case len(c.urgent) > 0:
		return popFirst(&c.urgent)
	case isDue && (len(c.routine) == 0 || !c.routineNext):
		c.routineNext = true
		return popFirst(&c.retries)
	case len(c.routine) > 0:
		c.routineNext = false
		return popFirst(&c.routine)
	}
	return nil
}

func popFirst(list *[]*crossCheck) *crossCheck {
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

// Record stores the result of a comparison: the members with a result, those that agreed, and
// whether some differ.
func (c *CrossChecks) Record(ref hsm.KeyRef, compared, agreed Set, differ bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.versions[ref]
	was := v.isPending()
	v.last, v.due, v.prioritised = now, time.Time{}, false
	v.compared |= compared
	v.agreed = v.agreed&^compared | agreed
	if compared != 0 {
		c.checked++
	}
	if was && !v.isPending() {
		c.pending--
	}
	if differ || compared == 0 || v.comparable&^v.compared&c.up != 0 {
		v.due = now.Add(retryAfter)
		c.retries = append(c.retries, v)
	}
}
