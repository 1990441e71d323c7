// Package listener limits the connections of a server whose clients are unknown until a request of
// theirs is authenticated, and records when each request began to arrive.
package listener

// The listener below TLS: how many connections are open at once, and which one is closed when there
// are too many (requirement U15).

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

// Listener accepts the connections of an http.Server that uses ConnContext and ConnState.
type Listener struct {
	net.Listener
	*connections
	trust atomic.Pointer[trust] // nil: no source sends PROXY headers
}

// connections are the open connections of one listener or of several.
type connections struct {
	max     int
	maxBody atomic.Int64
	log     *zap.Logger
	refused atomic.Int64
	cutOff  atomic.Int64
	slots   semaphore
	headers *headerStats

	refusedWarning rate.Sometimes
	cutOffWarning  rate.Sometimes

	mu              sync.Mutex
	open            int
	unauthenticated list.List             // of *Conn, the oldest first
	authenticated   map[string]*list.List // the others by key store; no list is empty
	multiTenant     bool                  // several key stores share the connections
}

// minMaxBody is the least that SetMaxBody sets, in bytes.
const minMaxBody = 128 << 10

// warningInterval limits the log lines that any client can cause.
const warningInterval = 10 * time.Second

// New wraps a TCP listener, below TLS, that keeps at most limit connections open. A new connection
// beyond the limit replaces the oldest one on which no request was authenticated, so that clients
// without a credential cannot lock AWS KMS out. If there is none, it replaces the oldest connection
// of the key store that has most, if that has more than its share, so that no tenant can lock out
// another. Otherwise the new connection is closed.
//
// Connections without an authenticated request share slots for half the processors, at least one:
// what they send reaches TLS only while they have a slot. A connection that waits for a slot for
// more than 2 s is closed. After an authenticated request, a connection needs no slot for the next
// 512 KiB and the longest body (SetMaxBody).
func New(l net.Listener, limit int, log *zap.Logger) *Listener {
	all := &connections{
		max: limit, log: log, slots: semaphore{free: max(1, runtime.GOMAXPROCS(0)/2)},
		headers: newHeaderStats(log), authenticated: map[string]*list.List{},
		refusedWarning: rate.Sometimes{First: 1, Interval: warningInterval},
		cutOffWarning:  rate.Sometimes{First: 1, Interval: warningInterval},
	}
	all.maxBody.Store(minMaxBody)
	return &Listener{Listener: l, connections: all}
}

// WithSharedLimits returns a Listener for another port that has the limits and the counts of l in
// common with it.
func (l *Listener) WithSharedLimits(other net.Listener) *Listener {
	return &Listener{Listener: other, connections: l.connections}
}

// SetMaxBody sets the longest body of a request, in bytes (Config.MaxBody), which a connection may
// send after each authenticated request in addition to 512 KiB. At first it is 128 KiB, which is
// also the minimum. It takes effect with the next authenticated request of a connection.
func (l *connections) SetMaxBody(bytes int) { l.maxBody.Store(int64(max(bytes, minMaxBody))) }

// Open returns the number of open connections.
func (l *connections) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Refused returns the number of connections closed since the start because there were too many.
func (l *connections) Refused() int64 { return l.refused.Load() }

// CutOff returns the number of connections closed since the start because they got no slot in time.
func (l *connections) CutOff() int64 { return l.cutOff.Load() }

func (l *connections) countCutOff() {
	l.cutOff.Add(1)
	l.cutOffWarning.Do(func() {
		l.log.Warn("connections without an authenticated request are closed: too many are busy; "+
			"is this a flood?", zap.Int64("so_far", l.cutOff.Load()))
	})
}

// Accept implements net.Listener. It returns connections of type *Conn.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.refusedWarning.Do(func() {
					l.log.Error("a connection cannot be accepted; "+
						"is the limit on open files too low?", zap.Error(err))
				})
			}
			return nil, err
		}
		c := l.newConn(raw)
		evicted := l.add(c)
		if evicted != nil {
			l.refused.Add(1)
			l.refusedWarning.Do(func() {
				l.log.Warn("too many connections; the oldest that nobody authenticated on are "+
					"closed, or those of the key store that has most", zap.Int("max", l.max))
			})
			_ = evicted.Close() // it may be closed already
		}
		if evicted != c {
			return c, nil
		}
	}
}

func (l *Listener) newConn(raw net.Conn) *Conn {
	now := time.Now()
	return &Conn{
		Conn: raw, shared: l.connections, accepted: now, sender: l.sender(raw.RemoteAddr(), now),
	}
}

// add counts a connection, and returns the one to close for it: nil if there is room, c itself if
// no other connection may be closed.
func (l *connections) add(c *Conn) *Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	evicted := (*Conn)(nil)
	if l.open >= l.max {
		evicted = c
		if oldest := l.unauthenticated.Front(); oldest != nil {
			evicted = oldest.Value.(*Conn)
		} else if largest := l.largestOverShare(); largest != nil {
			evicted = largest.Front().Value.(*Conn)
		}
	}
	l.open++
	l.link(c, &l.unauthenticated)
	return evicted
}

// largestOverShare returns the connections of the key store that has most, or nil if that is not
// more than an equal share for each key store that has any and for one more. With one key store
// there is no other one to make room for.
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

// markAuthenticated moves a connection to those of its key store.
func (l *connections) markAuthenticated(c *Conn, keyStore string, multiTenant bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.multiTenant = multiTenant
	if c.list == nil {
		return // it has been closed
	}
	l.unlink(c)
	c.keyStore = keyStore
	if l.authenticated[keyStore] == nil {
		l.authenticated[keyStore] = list.New()
	}
	l.link(c, l.authenticated[keyStore])
}

// remove stops counting a connection.
func (l *connections) remove(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(c)
	l.open--
}

// link appends a connection to a list. It requires mu.
func (l *connections) link(c *Conn, to *list.List) {
	c.list, c.element = to, to.PushBack(c)
}

// unlink removes a connection from its list, if it is in one. It requires mu.
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
