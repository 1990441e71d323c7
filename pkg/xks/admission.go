package xks

// Who is in flight, and what becomes of a request when too much is: shedding (requirement R3) and
// fairness among key stores.

import (
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm/group"
)

// rivals counts requests that compete for something: the whole proxy, or one HSM group.
type sharedLoad struct {
	inFlight  atomic.Int64
	keyStores atomic.Int64 // that have a request in flight
}

// lane is the requests of one key store on their way to one HSM group. It outlives a reload, so
// that what began before one and ends after it is counted in one place; a key store that is moved
// to another group gets a new lane.
type storeLoad struct {
	inFlight atomic.Int64
	all      *sharedLoad // of the proxy
	group    *sharedLoad // of the HSM group
	resolver *group.Resolver
}

func newStoreLoad(all, group *sharedLoad, g *group.Group) *storeLoad {
	return &storeLoad{all: all, group: group, resolver: g.NewResolver()}
}

// enter counts a request in; leave must follow.
func (l *storeLoad) enter() {
	l.all.inFlight.Add(1)
	l.group.inFlight.Add(1)
	if l.inFlight.Add(1) == 1 {
		l.all.keyStores.Add(1)
		l.group.keyStores.Add(1)
	}
}

func (l *storeLoad) leave() {
	if l.inFlight.Add(-1) == 0 {
		l.all.keyStores.Add(-1)
		l.group.keyStores.Add(-1)
	}
	l.group.inFlight.Add(-1)
	l.all.inFlight.Add(-1)
}

// aboveFairShare reports whether a key store has more in flight than an equal share for each that
// has any, and for one more: there must be room for the one that comes next.
func (c *sharedLoad) aboveFairShare(mine int64) bool {
	return mine*(c.keyStores.Load()+1) > c.inFlight.Load()
}

// admit says whether there is room for an authenticated request that was just counted in: in the
// whole proxy, of which the second half is for key stores that have no more than their share, and
// within the quota of its key store.
func (x *exchange) admit() error {
	store := x.store
	l := store.load
	most, all, mine := int64(x.config.MaxInFlight), l.all.inFlight.Load(), l.inFlight.Load()
	switch {
	case all > most:
		return errOverMaxInFlight
	case store.shared && 2*all > most && l.all.aboveFairShare(mine):
		return errOverShare
	case store.maxInFlight > 0 && mine > store.maxInFlight:
		return errOverStoreInFlight
	case x.queued > x.config.MaxQueueTime:
		return errOverQueueTime
	case !store.usage.bucket.allow(store.rate, sinceEpoch):
		return errOverStoreRate
	}
	return nil
}

// timeQueued is how long the request has waited for us since its last byte was read, which is not a
// fault of the client; 0 if that is not known. What comes meanwhile on the same connection,
// pipelined or on another stream, can make it too little.
func (x *exchange) timeQueued() time.Duration {
	if x.conn == nil {
		return 0
	}
	return x.conn.SinceLastRead()
}

// quotaEpoch is when the quotas' clock began.
var quotaEpoch = time.Now()

func sinceEpoch() int64 { return int64(time.Since(quotaEpoch)) }

// checkBacklog refuses a request that the HSMs cannot answer in time, before they are asked: calls
// is how often they will be. It may wait for a session for MaxQueueTime, and half of that if its
// key store has more than its share in flight, so that the line is never so long that another key
// store finds no place in it.
func (x *exchange) checkBacklog(calls int) error {
	wait, answer := x.store.group.Backlog()
	if wait == 0 {
		return nil
	}
	most := x.config.MaxQueueTime
	if wait > most {
		return errOverBacklog
	}
	l := x.store.load
	if x.store.shared && 2*wait > most && l.group.aboveFairShare(l.inFlight.Load()) {
		return errOverBacklogShare
	}
	deadline, _ := x.ctx.Deadline()
	if wait+time.Duration(calls)*answer > time.Until(deadline) {
		return errOverBudget
	}
	return nil
}
