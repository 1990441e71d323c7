package listener

// One accepted connection: when it was accepted and when each request began to arrive, and how many
// bytes it may still send before the next authenticated request. AWS KMS counts the time for a
// request from its first byte, not from the call of its handler (requirement U13).

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Conn is one accepted connection. Times are in nanoseconds since epoch, on the monotonic clock.
type Conn struct {
	net.Conn
	shared    *connections
	accepted  time.Time
	requests  atomic.Int64
	idle      atomic.Bool  // an HTTP/1.1 connection between two requests
	firstByte atomic.Int64 // when the current request began to arrive; 0: not known
	lastByte  atomic.Int64 // when the latest byte arrived
	closed    atomic.Bool
	sender    *headerSender // of a PROXY header; nil if none is expected
	begun     bool          // something was read after the PROXY header; for Read only

	// Whether and for which key store a request on this connection was authenticated. shared.mu
	// guards the last three.
	authenticated atomic.Bool
	keyStore      string        // of the first authenticated request
	list          *list.List    // that contains the connection; nil once it is closed
	element       *list.Element // of list

	// credit is how many bytes may arrive before the next authenticated request. At 0 and below,
	// Read needs a slot.
	credit    atomic.Int64
	holdsSlot atomic.Bool
	slotTimer *time.Timer // ends the use of the slot; for Read only
}

// MarkAuthenticated records that a request on this connection was authenticated for a key store,
// and renews the connection's credit. multiTenant reports whether several key stores share the
// connections. It does nothing for a nil Conn.
func (c *Conn) MarkAuthenticated(keyStore string, multiTenant bool) {
	if c == nil {
		return
	}
	c.credit.Store(authenticatedBytes + c.shared.maxBody.Load())
	if !c.authenticated.Load() && c.authenticated.CompareAndSwap(false, true) {
		c.shared.markAuthenticated(c, keyStore, multiTenant)
	}
	c.releaseSlot()
}

var epoch = time.Now()

// Read implements net.Conn. It records when a request begins to arrive. A connection without credit
// waits for a slot before Read returns what has arrived.
func (c *Conn) Read(b []byte) (int, error) {
	c.releaseSlot()
	n, err := c.receive(b)
	if n > 0 {
		now := int64(time.Since(epoch))
		c.lastByte.Store(now)
		if c.idle.Load() && c.idle.CompareAndSwap(true, false) {
			c.firstByte.Store(now)
		}
	}
	if n > 0 && c.credit.Add(int64(-n)) < 0 {
		refusal := c.acquireSlot()
		if refusal != nil {
			return 0, refusal
		}
	}
	return n, err
}

var errNoSlot = errors.New("too many connections without an authenticated request are busy")

// acquireSlot waits for a slot. Its error ends the connection.
func (c *Conn) acquireSlot() error {
	if !c.shared.slots.acquire() {
		c.shared.countCutOff()
		return errNoSlot
	}
	c.holdsSlot.Store(true)
	switch {
	case c.closed.Load(): // while it waited: nobody would read the answer
		c.releaseSlot()
		return net.ErrClosed
	case c.credit.Load() > 0: // another request of HTTP/2 was authenticated while this one waited
		c.releaseSlot()
	case c.slotTimer == nil:
		c.slotTimer = time.AfterFunc(maxSlotTime, c.releaseSlot)
	default:
		c.slotTimer.Reset(maxSlotTime)
	}
	return nil
}

// releaseSlot gives this connection's slot back, if it has one. A timer that fires late may release
// the connection's next slot instead. Then one connection more than usual is busy for a moment.
func (c *Conn) releaseSlot() {
	if c.holdsSlot.Load() && c.holdsSlot.CompareAndSwap(true, false) {
		c.shared.slots.release()
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.shared.remove(c)
		c.releaseSlot()
	}
	return c.Conn.Close()
}

type connKey struct{}

// ConnContext is the http.Server.ConnContext that ConnectionOf relies on.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if mine := connOf(c); mine != nil {
		return context.WithValue(ctx, connKey{}, mine)
	}
	return ctx
}

// ConnState is the http.Server.ConnState that ArrivalOf relies on. net/http reports a connection
// active only when a request's header is complete. So ConnState marks a connection as idle, and
// Read records the first byte after that.
func ConnState(c net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if mine := connOf(c); mine != nil {
		mine.firstByte.Store(0)
		mine.idle.Store(true)
	}
}

func connOf(c net.Conn) *Conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	mine, _ := c.(*Conn)
	return mine
}

// ConnectionOf returns the connection that carries a request, or nil if the request's server does
// not use a Listener.
func ConnectionOf(r *http.Request) *Conn {
	mine, _ := r.Context().Value(connKey{}).(*Conn)
	return mine
}

// Arrival says when a request began to arrive, on the wall clock.
type Arrival struct {
	Start    time.Time // of the request; the time of the call if it is not known
	Accepted time.Time // of the connection; zero if it is not known
	First    bool      // the request is the first one on its connection
}

// ArrivalOf returns when a request began to arrive (requirement U13). The start of an HTTP/2
// request is not known. Call it once for each request: it counts the requests of a connection.
func ArrivalOf(r *http.Request) Arrival {
	now := time.Now()
	mine := ConnectionOf(r)
	if mine == nil {
		return Arrival{Start: now}
	}
	a := Arrival{Start: now, Accepted: mine.accepted, First: mine.requests.Add(1) == 1}
	if first := mine.firstByte.Load(); r.ProtoMajor == 1 && first != 0 {
		// From now backwards: epoch's wall clock may have been wrong, and signatures are held
		// against it (A3).
		a.Start = now.Add(time.Duration(first) - time.Since(epoch))
	}
	return a
}

// SinceLastRead returns how long ago the latest byte arrived on the connection.
func (c *Conn) SinceLastRead() time.Duration {
	return time.Since(epoch) - time.Duration(c.lastByte.Load())
}
