package xks

// The connections that requests come on: how many there may be, and when each
// was accepted and last became active, because the time KMS gives a request
// starts then and not when its handler is called (requirement U13).

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Listener bounds and times the connections of an http.Server, which must be
// given its ConnContext and ConnState as well.
type Listener struct {
	net.Listener
	max     int64
	open    atomic.Int64
	refused atomic.Int64
}

// NewListener wraps a TCP listener, below TLS. Connections beyond max are
// closed at once.
func NewListener(l net.Listener, max int) *Listener {
	return &Listener{Listener: l, max: int64(max)}
}

// Open is the number of connections now; Refused that of those closed because
// there were too many.
func (l *Listener) Open() int64    { return l.open.Load() }
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) > l.max {
			l.open.Add(-1)
			l.refused.Add(1)
			c.Close()
			continue
		}
		return &conn{Conn: c, listener: l, accepted: time.Now()}, nil
	}
}

// conn is one accepted connection. Times are monotonic, in nanoseconds since epoch.
type conn struct {
	net.Conn
	listener  *Listener
	accepted  time.Time
	requests  atomic.Int64
	idle      atomic.Bool  // an HTTP/1.1 connection between two requests
	firstByte atomic.Int64 // when the current request began to arrive; 0: not known
	closed    atomic.Bool
}

var epoch = time.Now()

// Read implements net.Conn. It notes when an idle connection wakes.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.idle.Load() && c.idle.CompareAndSwap(true, false) {
		c.firstByte.Store(int64(time.Since(epoch)))
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.listener.open.Add(-1)
	}
	return c.Conn.Close()
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if mine := connOf(c); mine != nil {
		return context.WithValue(ctx, connKey{}, mine)
	}
	return ctx
}

// ConnState is for http.Server.ConnState. net/http reports a connection active
// only when a request's header is complete, so that the first byte is noted in
// Read, and this only says when to wait for one.
func ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if mine := connOf(c); mine != nil {
		mine.firstByte.Store(0)
		mine.idle.Store(true)
	}
}

func connOf(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	mine, _ := c.(*conn)
	return mine
}

// clock is the time that one request has.
type clock struct {
	start    time.Time
	deadline time.Time
	newConn  bool
}

// startClock reads when the request began and says when it must be answered.
func (c *Config) startClock(r *http.Request) clock {
	now := time.Now()
	k := clock{start: now}
	mine, _ := r.Context().Value(connKey{}).(*conn)
	if mine != nil {
		k.newConn = mine.requests.Add(1) == 1
		if first := mine.firstByte.Load(); r.ProtoMajor == 1 && first != 0 {
			k.start = epoch.Add(time.Duration(first))
		}
	}
	k.deadline = k.start.Add(c.Budget)
	if k.newConn {
		// A connection that was opened long before its first request, as pools and
		// load balancers do, was not opened for it.
		first := mine.accepted.Add(c.FirstRequestBudget)
		if first.Before(k.deadline) && k.start.Before(first) {
			k.deadline = first
		}
	}
	return k
}
