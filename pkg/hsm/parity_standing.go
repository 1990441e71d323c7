package hsm

// What is known of the parity of a group's keys: which findings stand, since when, which are news
// for the log; which versions were once on every HSM; which are known to differ
// in their material. All of it belongs to Group.mu.

import (
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// parity is what a group knows of the differences between its HSMs.
type parity struct {
	away  memberSet            // members whose keys could not be listed at the last try
	quick memberSet            // members whose last listing took little of their time
	read  memberSet            // the member whose listing is being taken in
	found map[string][]Finding // by label, as the members' objects are known now

	listings   map[memberSet]listing    // by member: the last, failed ones included; see refresh.go
	candidates map[findingID]*candidate // all that was found, told or not
	standing   []Finding                // that are told: sorted; a new slice at each change

	once      map[string][]uint32 // versions that were on every HSM, by label
	diverged  map[KeyRef]Finding  // versions with different material; ended by a comparison that succeeds
	estranged map[KeyRef]Finding  // copies that are not the key the others hold; they are not used
	failing   map[KeyRef]Finding  // keys that fail on an HSM that works
	refused   map[KeyRef]learned  // what HSMs refuse although the attributes allow it
	unsaved   bool                // once or diverged differ from what the state directory remembers
	writing   sync.Mutex          // one writes to the state directory at a time; does not need Group.mu

	lines     *rate.Limiter // of the log
	summaries *rate.Limiter // of what did not get a line
	unsaid    int           // that got neither yet
}

// findingID says whether two findings are the same one, seen twice.
type findingID struct {
	kind    FindingKind
	label   string
	version uint32
}

// candidate is a difference that may be only that one HSM was listed earlier than the
// other. It stands once every HSM has been listed, or has failed to be, after it was first seen.
type candidate struct {
	since   time.Time
	waiting memberSet // members not yet listed since
}

const (
	loggedFindings = 20              // lines about findings that are logged at once
	findingsEvery  = 3 * time.Second // for one more line
	quickListing   = 100 * time.Millisecond
	summaryEvery   = time.Minute // for a line about those that got none
)

func (p *parity) init() {
	p.found = map[string][]Finding{}
	p.listings = map[memberSet]listing{}
	p.candidates = map[findingID]*candidate{}
	p.once = map[string][]uint32{}
	p.diverged = map[KeyRef]Finding{}
	p.estranged = map[KeyRef]Finding{}
	p.failing = map[KeyRef]Finding{}
	p.refused = map[KeyRef]learned{}
	p.lines = rate.NewLimiter(rate.Every(findingsEvery), loggedFindings)
	p.summaries = rate.NewLimiter(rate.Every(summaryEvery), 1)
}

// findings are the differences that stand now, sorted by label, version and kind.
func (g *Group) findings() []Finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Finding{}, g.parity.standing...) // an empty list, in JSON too
}

// everyone is the set of all members.
func (g *Group) everyone() memberSet { return 1<<len(g.members) - 1 }

// judge marks the versions of a new key that differ in material, and those that are lost, and notes
// those that are on every HSM. Group.mu is held.
//
// A version counts as once complete only if every HSM of the group was seen with it: one that was
// never seen proves nothing.
func (g *Group) judge(key *Key) {
	g.mark(key)
	if len(g.members) < 2 || key.complete != g.everyone() || key.Label == g.config.TestKey {
		return
	}
	once := g.parity.once[key.Label]
	for i := range key.versions {
		v := &key.versions[i]
		if v.usable() != key.complete || v.diverged || slices.Contains(once, v.number) {
			continue
		}
		once = slices.Sorted(slices.Values(slices.Concat(once, []uint32{v.number}))) // a new slice: the old may just be written
		g.parity.once[key.Label] = once
		g.parity.unsaved = true
	}
}

// mark marks the versions of a key that nobody uses yet. Group.mu is held.
func (g *Group) mark(key *Key) {
	for i := range key.versions {
		v := &key.versions[i]
		finding, ok := g.parity.diverged[KeyRef{key.Label, v.number}]
		v.diverged = ok && (v.holders&g.set(finding.HSMs)).size() > 1
		_, estranged := g.parity.estranged[KeyRef{key.Label, v.number}]
		_, failing := g.parity.failing[KeyRef{key.Label, v.number}]
		v.spoilt = estranged || failing
		v.refused = g.parity.refused[KeyRef{key.Label, v.number}].usage
		key.Usage &^= v.refused
		key.refused = key.refused || v.refused != 0
		v.lost = g.config.LostKey == LostKeyEncrypt && v.usable() != key.complete && slices.Contains(g.parity.once[key.Label], v.number)
	}
}

// set is the place in the group of the members named.
func (g *Group) set(hsms []string) memberSet {
	var set memberSet
	for _, m := range g.members {
		if slices.Contains(hsms, m.Name) {
			set |= m.bit
		}
	}
	return set
}

// namesOf is the opposite of set.
func (g *Group) namesOf(set memberSet) []string {
	var list []string
	for _, m := range g.members {
		if set&m.bit != 0 {
			list = append(list, m.Name)
		}
	}
	return list
}

// forgetGone drops what is remembered of versions that no HSM holds any more: a key of that name that
// is made anew is another key. Group.mu is held.
func (g *Group) forgetGone(next *catalogue) {
	if next.unknown != 0 {
		return // an HSM that was never seen may hold it
	}
	for label, once := range g.parity.once {
		key := next.keys[label]
		if key != nil && !slices.ContainsFunc(once, func(number uint32) bool { return key.version(number) == nil }) {
			continue
		}
		left := slices.DeleteFunc(slices.Clone(once), func(number uint32) bool { return key == nil || key.version(number) == nil })
		g.parity.once[label] = left
		if len(left) == 0 {
			delete(g.parity.once, label)
		}
		g.parity.unsaved = true
	}
	isGone := func(ref KeyRef, _ Finding) bool {
		key := next.keys[ref.Label]
		return key == nil || key.version(ref.Version) == nil
	}
	maps.DeleteFunc(g.parity.estranged, isGone)
	maps.DeleteFunc(g.parity.failing, isGone)
	for ref := range g.parity.diverged {
		if key := next.keys[ref.Label]; key == nil || key.version(ref.Version) == nil {
			delete(g.parity.diverged, ref)
			g.parity.unsaved = true
		}
	}
}

// compareViews notes in what the members differ under a label. The test key is each HSM's own. Group.mu is held.
func (g *Group) compareViews(label string, views []view) {
	if label == g.config.TestKey {
		return
	}
	found := append(compare(label, views, g.parity.once[label]), doubts(label, views)...)
	if len(found) > 0 {
		g.parity.found[label] = found
	}
}

// settle decides which findings stand, and logs those that are new or over. Group.mu is held.
func (g *Group) settle() {
	p := &g.parity
	now := time.Now()
	candidates := make(map[findingID]*candidate, len(p.candidates))
	var standing []Finding
	fresh := false
	for _, found := range p.found {
		for _, finding := range found {
			id := finding.id()
			known := p.candidates[id]
			if known == nil {
				known = &candidate{since: now, waiting: g.everyone() &^ p.away &^ p.read}
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
	if fresh {
		g.listSoon()
	}
	catalogue := g.catalogue.Load()
	for ref, finding := range p.diverged {
		if catalogue.isDiverged(ref) {
			standing = append(standing, finding)
		}
	}
	for _, more := range []map[KeyRef]Finding{p.estranged, p.failing} {
		for ref, finding := range more {
			if key := catalogue.keys[ref.Label]; key != nil && key.version(ref.Version) != nil {
				standing = append(standing, finding)
			}
		}
	}
	slices.SortFunc(standing, byPlace)
	before := p.standing
	p.standing = standing
	g.tell(before, standing)
}

// listSoon has the HSMs listed again, so that what is only a matter of time is known for that. Those
// for which a listing is much work are left to their turn.
func (g *Group) listSoon() {
	for _, m := range g.members {
		if g.parity.quick&m.bit != 0 {
			nudge(m.refresh)
		}
	}
}

// listingDone is what a listing that began at a moment, and its failure, mean for differences. Group.mu is held.
func (g *Group) listingDone(m *member, began time.Time, err error) {
	g.parity.listings[m.bit] = listing{began, err}
	g.parity.quick &^= m.bit
	if time.Since(began) <= quickListing {
		g.parity.quick |= m.bit
	}
	away := g.parity.away &^ m.bit
	if err != nil {
		away |= m.bit
	}
	if away != g.parity.away {
		g.parity.away = away
		g.rebuild() // for the findings to say what is old knowledge
	}
	settled, waiting := false, false
	for _, c := range g.parity.candidates {
		if c.waiting&m.bit != 0 && (err != nil || !began.Before(c.since)) {
			c.waiting &^= m.bit
			settled = settled || c.waiting == 0
		}
		waiting = waiting || c.waiting&m.bit != 0
	}
	if waiting && g.parity.quick&m.bit != 0 {
		nudge(m.refresh)
	}
	if settled {
		g.settle()
	}
}

func (f Finding) id() findingID { return findingID{f.Kind, f.Label, f.Version} }

// tell logs what is new and what is over: what is the same for many keys in one line, and not so many
// lines that the log becomes unreadable.
func (g *Group) tell(before, now []Finding) {
	if len(before)+len(now) == 0 {
		return
	}
	for _, f := range GroupFindings(newSince(byID(before), now)) {
		g.tellOne(levels[f.Kind.Severity()], headline(f.Kind, "the HSMs' keys differ", "a key needs attention"), f)
	}
	for _, f := range GroupFindings(newSince(byID(now), before)) {
		g.tellOne(zapcore.InfoLevel, headline(f.Kind, "the HSMs' keys no longer differ", "a key no longer needs attention"), f)
	}
	if unsaid := g.parity.unsaid; unsaid > 0 && g.parity.summaries.Allow() {
		g.parity.unsaid = 0
		g.log.Warn("more has changed in how the HSMs' keys differ than is logged one by one; `xks-proxy hsm list` shows what stands",
			zap.Int("not_logged", unsaid), zap.Int("findings", len(now)))
	}
}

var levels = map[Severity]zapcore.Level{Minor: zapcore.InfoLevel, Warning: zapcore.WarnLevel, Severe: zapcore.ErrorLevel}

func headline(kind FindingKind, differs, alone string) string {
	return choose(kind.differs(), differs, alone)
}

func (g *Group) tellOne(level zapcore.Level, message string, f FindingGroup) {
	if !g.parity.lines.Allow() {
		g.parity.unsaid += f.Len()
		return
	}
	fields := []zap.Field{zap.String("finding", string(f.Kind)), zap.String("label", ShowLabel(f.Label)),
		zap.Uint32("version", f.Version), zap.Strings("hsms", f.HSMs), zap.String("detail", f.Detail)}
	if f.Len() > 1 {
		fields = append(fields, zap.Int("keys", f.Len()), zap.Strings("labels", f.labels()))
	}
	g.log.Log(level, message, fields...)
}

func byID(list []Finding) map[findingID]Finding {
	ids := make(map[findingID]Finding, len(list))
	for _, f := range list {
		ids[f.id()] = f
	}
	return ids
}
