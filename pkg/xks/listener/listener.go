// Package listener bounds the connections of a server whose clients are strangers until they have
// authenticated, and knows when each request began to arrive.
package listener

// The listener below TLS: how many connections there may be, and which goes when there are too many
// (requirement U15).

import (
	"container/list"
	"errors"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Listener bounds and times the connections of an http.Server, which must be given its ConnContext
// and ConnState as well.
type Listener struct {
	net.Listener
	*connections
	trust atomic.Pointer[trust] // nil: of nobody
}

// connections is all connections, of one listener or of several.
type connections struct {
	max     int
	maxBody atomic.Int64
	log     *zap.Logger
	refused atomic.Int64
	cutOff  atomic.Int64
	alarm   rate.Sometimes
	cutting rate.Sometimes // alarm, of the connections cut off
	slots   semaphore
	headers *headerStats

	mu              sync.Mutex
	open            int
	unauthenticated list.List             // of *conn, the oldest first: on which nobody has authenticated yet
	authenticated   map[string]*list.List // the others, by the key store for which somebody has; none is empty
	multiTenant     bool                  // there are several key stores
}

// leastMaxBody is the length of body, in bytes, that a connection may send at least.
const leastMaxBody = 128 << 10

// alarmInterval keeps what anyone can cause from flooding the log.
const alarmInterval = 10 * time.Second

// New wraps a TCP listener, below TLS. With limit connections open, a new one takes the place of
// the oldest on which nobody has authenticated, so that strangers who hold connections open cannot
// lock AWS KMS out. If there is none, it takes the place of one of the key store that has most, if
// that is more than its share (crowd.largest), so that no tenant can lock out another; or else it
// is closed.
//
// Until somebody has authenticated on a connection, it may send 2 MiB and a body of the default
// maximum (SetMaxBody), and 1 KiB a second beside; and all such connections together keep no more
// than half the processors busy. What goes beyond is cut off. Each authenticated request lifts
// these limits, for 512 KiB and the longest body.
func New(l net.Listener, limit int, log *zap.Logger) *Listener {
	all := &connections{
		max: limit, log: log, slots: semaphore{free: max(1, runtime.GOMAXPROCS(0)/2)},
		headers: newHeaderStats(log),
	}
	all.alarm.First, all.alarm.Interval = 1, alarmInterval
	all.cutting.First, all.cutting.Interval = 1, alarmInterval
	all.maxBody.Store(leastMaxBody)
	return &Listener{Listener: l, connections: all}
}

// WithSharedLimits gives a listener for another port: the limits and counts are of both together.
func (l *Listener) WithSharedLimits(other net.Listener) *Listener {
	return &Listener{Listener: other, connections: l.connections}
}

// SetMaxBody says how long the body of a request may be, in bytes (Config.MaxBody), so that a legal
// first request is not cut off. It holds for connections from now on.
func (l *connections) SetMaxBody(bytes int) { l.maxBody.Store(int64(max(bytes, leastMaxBody))) }

// Open is the number of connections now.
func (l *connections) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Refused is the number of connections closed because there were too many.
func (l *connections) Refused() int64 { return l.refused.Load() }

// CutOff is the number of connections ended because too much was sent, or too many were at work,
// before anybody authenticated.
func (l *connections) CutOff() int64 { return l.cutOff.Load() }

func (l *connections) cut() {
	l.cutOff.Add(1)
	l.cutting.Do(func() {
		l.log.Warn(
			"connections are cut off on which much was sent and nobody authenticated; is it a flood?",
			zap.Int64("so_far", l.cutOff.Load()),
		)
	})
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.alarm.Do(func() {
					l.log.Error(
						"a connection cannot be accepted; is the limit on open files too low?",
						zap.Error(err),
					)
				})
			}
			return nil, err
		}
		c := l.newConn(raw)
		evicted := l.add(c)
		if evicted != nil {
			l.refused.Add(1)
			l.alarm.Do(func() {
				l.log.Warn(
					"too many connections; the oldest that nobody authenticated on are closed, or those of the key store that has most",
					zap.Int("max", l.max),
				)
			})
			_ = evicted.Close() // it may be gone already
		}
		if evicted != c {
			return c, nil
		}
	}
}

func (l *Listener) newConn(raw net.Conn) *Conn {
	now := time.Now()
	return &Conn{
		Conn: raw, shared: l.connections, accepted: now, allowance: newAllowance(int(l.maxBody.Load())),
		sender: l.sender(raw.RemoteAddr(), now),
	}
}

// admit counts a connection in. It gives the one that has to go for it, which is itself if all
// others are in good standing.
func (l *connections) add(c *Conn) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	evicted := (*Conn)(nil)
	if l.open >= l.max {
		evicted = c
		if oldest := l.unauthenticated.Front(); oldest != nil {
			evicted = oldest.Value.(*Conn)
		} else if largest := l.largestOverShare(); largest != nil {
			evicted = oldestIdle(largest)
		}
	}
	l.open++
	l.link(c, &l.unauthenticated)
	return evicted
}

// largest is the connections of the key store that has most, if it has more than an equal share for
// each that has any, and for one more. With a single key store there is nobody to make room for.
func (l *connections) largestOverShare() *list.List {
	var most *list.List
	for _, one := range l.authenticated {
		if most == nil || one.Len() > most.Len() {
			most = one
		}
	}
	if !l.multiTenant || most == nil || most.Len()*(len(l.authenticated)+1) <= l.open {
		return nil
	}
	return most
}

// maxScanned is how many connections are looked at for one that is idle.
const maxScanned = 256

// oldestIdle is the oldest idle one of the first, or the oldest.
func oldestIdle(conns *list.List) *Conn {
	at := conns.Front()
	for range maxScanned {
		if at == nil {
			break
		}
		c := at.Value.(*Conn)
		if c.idle.Load() {
			return c
		}
		at = at.Next()
	}
	return conns.Front().Value.(*Conn)
}

// prove takes a connection out of the strangers.
func (l *connections) markAuthenticated(c *Conn, keyStore string, shared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.multiTenant = shared
	if c.list == nil {
		return // it was closed meanwhile
	}
	l.unlink(c)
	c.keyStore = keyStore
	if l.authenticated[keyStore] == nil {
		if l.authenticated == nil {
			l.authenticated = map[string]*list.List{}
		}
		l.authenticated[keyStore] = list.New()
	}
	l.link(c, l.authenticated[keyStore])
}

// leave counts a connection out.
func (l *connections) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(c)
	l.open--
}

// put and forget are for whoever holds the lock.
func (l *connections) link(c *Conn, among *list.List) {
	c.list, c.element = among, among.PushBack(c)
}

func (l *connections) unlink(c *Conn) {
	if c.list == nil {
		return
	}
	c.list.Remove(c.element)
	if c.list.Len() == 0 && c.list != &l.unauthenticated {
		delete(l.authenticated, c.keyStore)
	}
	c.list, c.element = nil, nil
}
