package listener

// A connection that requests come on: when it was accepted and when each request began to arrive,
// because the time KMS gives a request starts then and not when its handler is called (requirement
// U13); and what it may do until somebody has authenticated on it.

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Conn is one accepted connection. Times are monotonic, in nanoseconds since epoch.
type Conn struct {
	net.Conn
	shared        *connections
	accepted      time.Time
	requests      atomic.Int64
	idle          atomic.Bool  // an HTTP/1.1 connection between two requests
	firstByte     atomic.Int64 // when the current request began to arrive; 0: not known
	lastByte      atomic.Int64 // when anything last arrived
	closed        atomic.Bool
	authenticated atomic.Bool   // somebody has authenticated on it
	list          *list.List    // crowd.strangers or one of crowd.known; nil: neither. Guarded by the crowd's lock, as is place
	element       *list.Element // in among
	keyStore      string        // for which somebody first authenticated; likewise
	sender        *headerSender // of a PROXY header; nil if none may come
	begun         bool          // something was read, the header of sender aside; for Read only

	// A stranger is who has no credit.
	credit    atomic.Int64  // bytes that may come before the next authenticated request
	allowance *rate.Limiter // bytes of a stranger
	holdsSlot atomic.Bool   // it has a turn of the gate
	slotTimer *time.Timer   // of its turn; for Read only
}

// Authenticated notes that a request on this connection was authenticated for a key store. shared
// says that there are several key stores, which share the connections.
func (c *Conn) MarkAuthenticated(keyStore string, shared bool) {
	if c == nil {
		return
	}
	c.credit.Store(authenticatedBytes + c.shared.maxBody.Load())
	if !c.authenticated.Load() && c.authenticated.CompareAndSwap(false, true) {
		c.shared.markAuthenticated(c, keyStore, shared)
	}
	c.releaseSlot()
}

var epoch = time.Now()

// Read implements net.Conn. It notes when an idle connection wakes, and has strangers wait for
// their turn.
func (c *Conn) Read(b []byte) (int, error) {
	c.releaseSlot()
	if c.credit.Load() <= 0 && len(b) > unauthenticatedRead {
		b = b[:unauthenticatedRead]
	}
	n, err := c.receive(b)
	if n > 0 {
		now := int64(time.Since(epoch))
		c.lastByte.Store(now)
		if c.idle.Load() && c.idle.CompareAndSwap(true, false) {
			c.firstByte.Store(now)
		}
	}
	if n > 0 && c.credit.Add(int64(-n)) < 0 {
		if refusal := c.acquireSlot(n); refusal != nil {
			return 0, refusal
		}
	}
	return n, err
}

var (
	errTooMuch = errors.New("too much was sent on a connection on which nobody has authenticated")
	errNoSlot  = errors.New("too many are at work on whose connections nobody has authenticated")
)

// acquireSlot is for n bytes of a stranger.
func (c *Conn) acquireSlot(n int) error {
	if !c.allowance.AllowN(time.Now(), n) {
		c.shared.cut()
		return errTooMuch
	}
	if !c.shared.slots.acquire() {
		c.shared.cut()
		return errNoSlot
	}
	c.holdsSlot.Store(true)
	switch {
	case c.closed.Load(): // while it waited; its work would be in vain
		c.releaseSlot()
		return net.ErrClosed
	case c.credit.Load() > 0: // by another request of HTTP/2, while this one waited
		c.releaseSlot()
	case c.slotTimer == nil:
		c.slotTimer = time.AfterFunc(maxSlotTime, c.releaseSlot)
	default:
		c.slotTimer.Reset(maxSlotTime)
	}
	return nil
}

// releaseSlot ends this connection's turn at the gate, if it has one. A lease that runs out late
// may end the next one: that stranger works beside another for once.
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

// ConnContext is for http.Server.ConnContext.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if mine := connOf(c); mine != nil {
		return context.WithValue(ctx, connKey{}, mine)
	}
	return ctx
}

// ConnState is for http.Server.ConnState. net/http reports a connection active only when a
// request's header is complete, so that the first byte is noted in Read, and this only says when to
// wait for one.
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

// ConnectionOf is the connection that a request came on; nil if its server does not use a Listener.
func ConnectionOf(r *http.Request) *Conn {
	mine, _ := r.Context().Value(connKey{}).(*Conn)
	return mine
}

// arrival is when a request began to arrive.
type arrival struct {
	Start    time.Time // of the request; now, if that is not known
	Accepted time.Time // its connection
	First    bool      // it is the first request of its connection
}

// ArrivalOf is for one call for each request.
func ArrivalOf(r *http.Request) arrival {
	now := time.Now()
	mine := ConnectionOf(r)
	if mine == nil {
		return arrival{Start: now}
	}
	a := arrival{Start: now, Accepted: mine.accepted, First: mine.requests.Add(1) == 1}
	if first := mine.firstByte.Load(); r.ProtoMajor == 1 && first != 0 {
		// From now backwards: epoch's wall clock may have been wrong, and signatures are held
		// against it (A3).
		a.Start = now.Add(time.Duration(first) - time.Since(epoch))
	}
	return a
}

// SinceLastRead is how long nothing has arrived on the connection.
func (c *Conn) SinceLastRead() time.Duration {
	return time.Since(epoch) - time.Duration(c.lastByte.Load())
}
