package xks

// The listener below TLS: how many connections there may be, and which goes when
// there are too many (requirement U15).

import (
	"container/list"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Listener bounds and times the connections of an http.Server, which must be
// given its ConnContext and ConnState as well.
type Listener struct {
	net.Listener
	max     int
	log     *zap.Logger
	refused atomic.Int64
	alarm   rate.Sometimes

	mu        sync.Mutex
	open      int
	strangers list.List // of *conn, the oldest first: on which nobody has authenticated yet
}

// alarmInterval keeps what anyone can cause from flooding the log.
const alarmInterval = 10 * time.Second

// NewListener wraps a TCP listener, below TLS. With max connections open, a new one takes the place
// of the oldest on which nobody has authenticated, so that strangers who hold
// connections open cannot lock AWS KMS out; if there is none, the new one is closed.
func NewListener(l net.Listener, max int, log *zap.Logger) *Listener {
	return &Listener{Listener: l, max: max, log: log, alarm: rate.Sometimes{First: 1, Interval: alarmInterval}}
}

// Open is the number of connections now.
func (l *Listener) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// Refused is the number of connections closed because there were too many.
func (l *Listener) Refused() int64 { return l.refused.Load() }

// Beside wraps a further TCP listener, whose connections count under the same limit. Each is closed
// by itself.
func (l *Listener) Beside(other net.Listener) net.Listener { return &beside{other, l} }

type beside struct {
	net.Listener
	counts *Listener
}

// Accept implements net.Listener.
func (b *beside) Accept() (net.Conn, error) { return b.counts.acceptFrom(b.Listener) }

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) { return l.acceptFrom(l.Listener) }

func (l *Listener) acceptFrom(port net.Listener) (net.Conn, error) {
	for {
		raw, err := port.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.alarm.Do(func() {
					l.log.Error("a connection cannot be accepted; is the limit on open files too low?", zap.Error(err))
				})
			}
			return nil, err
		}
		c := &conn{Conn: raw, listener: l, accepted: time.Now()}
		victim := l.admit(c)
		if victim != nil {
			l.refused.Add(1)
			l.alarm.Do(func() {
				l.log.Warn("too many connections; the oldest that nobody authenticated on are closed", zap.Int("max", l.max))
			})
			_ = victim.Close() // it may be gone already
		}
		if victim != c {
			return c, nil
		}
	}
}

// admit counts a connection in. It gives the one that has to go for it, which
// is itself if all others are in good standing.
func (l *Listener) admit(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	victim := (*conn)(nil)
	if l.open >= l.max {
		victim = c
		if oldest := l.strangers.Front(); oldest != nil {
			victim = oldest.Value.(*conn)
		}
	}
	l.open++
	c.stranger = l.strangers.PushBack(c)
	return victim
}

// known takes a connection out of the strangers.
func (l *Listener) known(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(c)
}

// leave counts a connection out.
func (l *Listener) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(c)
	l.open--
}

// forget is known, with the lock held.
func (l *Listener) forget(c *conn) {
	if c.stranger != nil {
		l.strangers.Remove(c.stranger)
		c.stranger = nil
	}
}
