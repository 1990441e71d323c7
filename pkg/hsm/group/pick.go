package group

// Which HSM a request asks next.

import (
	"math/rand/v2"
	"slices"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
)

// holders returns the members to ask: those seen with this version and those never listed, without
// drained ones.
func (g *Group) holders(ref hsm.KeyRef) catalogue.Set {
	c := g.catalogue.Load()
	holders := c.Unknown
	if key := c.Keys[ref.Label]; key != nil {
		if v := key.Version(ref.Version); v != nil {
			if usable := v.Usable(); usable != 0 {
				holders |= usable
			} else {
				holders |= v.Holders // which will say why not
			}
		}
		if guess := key.Trial(ref.Version); guess != nil {
			holders |= guess.Holders
		}
	}
	return g.undrained(holders)
}

// heldByDrained reports whether a drained HSM holds the version.
func (g *Group) heldByDrained(ref hsm.KeyRef) bool {
	key := g.catalogue.Load().Keys[ref.Label]
	if key == nil {
		return false
	}
	var holders catalogue.Set
	if v := key.Version(ref.Version); v != nil {
		holders |= v.Holders
	}
	if guess := key.Trial(ref.Version); guess != nil {
		holders |= guess.Holders
	}
	return g.undrained(holders) != holders
}

// undrained returns the members of a set that are not drained.
func (g *Group) undrained(set catalogue.Set) catalogue.Set {
	for _, m := range g.members {
		if m.breaker.Drained.Load() {
			set &^= m.bit
		}
	}
	return set
}

// pick chooses one member of a set that is not empty, by state (healthy, in backoff with passing
// probes, suspect, out), then by priority, then by the fewest requests in flight. Equal members
// take turns.
func (g *Group) pick(set catalogue.Set) *member {
	set = g.best(set)
	if set.Size() == 1 {
		return g.members[set.First()]
	}
	var equals catalogue.Set
	var priority int
	var fewest int32
	for _, m := range g.members {
		if set&m.bit == 0 {
			continue
		}
		inFlight := m.load()
		switch {
		case equals == 0 || m.Priority < priority || m.Priority == priority && inFlight < fewest:
			equals, priority, fewest = m.bit, m.Priority, inFlight
		case m.Priority == priority && inFlight == fewest:
			equals |= m.bit
		}
	}
	for skip := g.roundRobin.Add(1) % uint32(equals.Size()); skip > 0; skip-- {
		equals &= equals - 1 // without its first
	}
	return g.members[equals.First()]
}

// best returns the members of a set in the best state. A returning member is among them as often as
// its share allows.
func (g *Group) best(set catalogue.Set) catalogue.Set {
	if set.Size() == 1 {
		return set
	}
	var well, returning, vetting, suspected catalogue.Set
	for _, m := range g.members {
		switch {
		case set&m.bit == 0, m.breaker.Out.Load():
		case m.breaker.Suspect.Load():
			suspected |= m.bit
		case m.vetting.Load():
			vetting |= m.bit
		case m.breaker.Returned.Load() != nil && rand.Float64() >= m.breaker.Share(time.Now()):
			returning |= m.bit
		default:
			well |= m.bit
		}
	}
	order := [...]catalogue.Set{well, returning, vetting, g.available(set), suspected}
	for _, choice := range order {
		if choice != 0 {
			return choice
		}
	}
	return set
}

// preferred returns the members of a set to ask for a key: those whose copy is trusted and works.
// Encrypt never uses a copy that is not trusted (requirement R6). Decrypt may if no other HSM is
// available: the tag proves the material, and a refusal does not count as a verdict.
func (g *Group) preferred(set catalogue.Set, ref hsm.KeyRef, need hsm.Usage) catalogue.Set {
	if trusted := g.trusted(set, ref); trusted != set &&
		(need == hsm.CanEncrypt || g.available(trusted) != 0 ||
			g.available(set) == 0 && trusted != 0) {
		set = trusted
	}
	working := set
	for _, m := range g.members {
		if working&m.bit != 0 && m.keyBreaker.IsOpen(ref) {
			working &^= m.bit
		}
	}
	if working == set || g.available(working) != 0 {
		return working
	}
	return set
}

// avoiding drops the named members, unless only members of lower priority or out of service would
// be left.
func (g *Group) avoiding(set catalogue.Set, names []string) catalogue.Set {
	if len(names) == 0 {
		return set
	}
	var best *member
	var others catalogue.Set
	for _, m := range g.members {
		if g.inService(set&m.bit) == 0 {
			continue
		}
		if best == nil || m.Priority < best.Priority {
			best, others = m, 0
		}
		if m.Priority == best.Priority && !slices.Contains(names, m.Name) {
			others |= m.bit
		}
	}
	if others == 0 {
		return set
	}
	return others
}

// available returns the members of a set that should answer: those in service or, if there are
// none, those in backoff whose probes pass.
func (g *Group) available(set catalogue.Set) catalogue.Set {
	if up := g.inService(set); up != 0 {
		return up
	}
	var kept catalogue.Set
	for _, m := range g.members {
		if set&m.bit != 0 && m.breaker.Out.Load() && !m.breaker.Suspect.Load() &&
			m.health.Load().Status != status.Unavailable {
			kept |= m.bit
		}
	}
	return g.undrained(kept)
}

// inService returns the members of a set that are neither out, suspect nor drained.
func (g *Group) inService(set catalogue.Set) catalogue.Set {
	var up catalogue.Set
	for _, m := range g.members {
		if set&m.bit != 0 && m.breaker.InService() {
			up |= m.bit
		}
	}
	return up
}

// fastMembers returns the available members of a set that will probably answer within the given
// time. For an overdue call, a member whose last call went unanswered does not count: a group that
// is slow as a whole must not get twice the load.
func (g *Group) fastMembers(set catalogue.Set, within time.Duration, overdue bool) catalogue.Set {
	var quick catalogue.Set
	set = g.available(set)
	for _, m := range g.members {
		if set&m.bit == 0 || overdue && m.breaker.Unresponsive.Load() || m.vetting.Load() {
			continue
		}
		if m.queue.Wait(m.waiting())+time.Duration(m.latency.P50.Load()) < within {
			quick |= m.bit
		}
	}
	return quick
}

// withFreeSession returns the members of a set with a free session.
func (g *Group) withFreeSession(set catalogue.Set) catalogue.Set {
	var free catalogue.Set
	for _, m := range g.members {
		if set&m.bit != 0 && m.queue.Wait(m.waiting()) == 0 {
			free |= m.bit
		}
	}
	return free
}

// hedgeDelay returns the time after which a request on this HSM is slow: twice its recent p99, at
// least HedgeAfter and at most AttemptTimeout.
func (g *Group) hedgeDelay(m *member) time.Duration {
	p99 := time.Duration(m.latency.P99.Load())
	if p99 == 0 {
		return max(g.config.HedgeAfter, g.config.AttemptTimeout/2)
	}
	return min(max(2*p99, g.config.HedgeAfter), g.config.AttemptTimeout)
}
