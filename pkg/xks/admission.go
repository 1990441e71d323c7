package xks

// Admission of authenticated requests: how many are in flight, which ones are shed when there are
// too many (requirement R3), and fair shares among key stores.

import (
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm/group"
)

// sharedLoad counts the requests in flight that compete for something: the whole proxy, or one HSM
// group.
type sharedLoad struct {
	inFlight  atomic.Int64
	keyStores atomic.Int64 // with a request in flight
}

// storeLoad counts the requests in flight from one key store to one HSM group. It outlives a
// reload, so that a request that spans the reload is counted in one place. A key store that moves
// to another group gets a new storeLoad.
type storeLoad struct {
	inFlight atomic.Int64
	all      *sharedLoad // of the proxy
	group    *sharedLoad // of the HSM group
	resolver *group.Resolver
}

func newStoreLoad(all, group *sharedLoad, g *group.Group) *storeLoad {
	return &storeLoad{all: all, group: group, resolver: g.NewResolver()}
}

// enter counts a request as in flight. Each call needs a call of leave.
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

// aboveFairShare reports whether a key store with mine requests in flight exceeds its fair share:
// an equal part for each key store that has requests in flight, and for one more, so that the next
// one finds room.
func (l *sharedLoad) aboveFairShare(mine int64) bool {
	return mine*(l.keyStores.Load()+1) > l.inFlight.Load()
}

// admit returns the error of the first limit that an authenticated request exceeds, or nil. The
// request is already counted as in flight. The second half of MaxInFlight is for key stores within
// their fair share.
func (x *exchange) admit() error {
	store := x.store
	l := store.load
	limit, all, mine := int64(x.config.MaxInFlight), l.all.inFlight.Load(), l.inFlight.Load()
	switch {
	case all > limit:
		return errOverMaxInFlight
	case store.shared && 2*all > limit && l.all.aboveFairShare(mine):
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

// timeQueued returns how long the request has waited for the proxy since its last byte was read, or
// 0 if that is not known. Later bytes on the same connection, pipelined or on another stream, make
// the result too small.
func (x *exchange) timeQueued() time.Duration {
	if x.conn == nil {
		return 0
	}
	return x.conn.SinceLastRead()
}

// quotaEpoch is the zero of the clock of quotas.
var quotaEpoch = time.Now()

func sinceEpoch() int64 { return int64(time.Since(quotaEpoch)) }

// checkBacklog refuses a request that the HSMs cannot answer in time, before it asks them. calls is
// the number of HSM calls that the request needs. A request may wait for a session for
// MaxQueueTime, or for half of that if its key store exceeds its fair share. So the queue is never
// too long for a request of another key store.
func (x *exchange) checkBacklog(calls int) error {
	wait, answer := x.store.group.Backlog()
	if wait == 0 {
		return nil
	}
	limit := x.config.MaxQueueTime
	if wait > limit {
		return errOverBacklog
	}
	l := x.store.load
	if x.store.shared && 2*wait > limit && l.group.aboveFairShare(l.inFlight.Load()) {
		return errOverBacklogShare
	}
	deadline, _ := x.ctx.Deadline()
	if wait+time.Duration(calls)*answer > time.Until(deadline) {
		return errOverBudget
	}
	return nil
}
