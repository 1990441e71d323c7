package socket

// Limits on the connections of the listeners beside the HTTPS ports: health, metrics and the admin
// socket. Without them, idle connections there would use up the open files of the process,
// and AWS KMS could not connect.

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Connections at once: a few load balancers, monitoring, and operators with scripts.
const (
	HealthConnections  = 64
	Connections        = 32
	MetricsConnections = 32
)

// FewConnections bounds the connections of one http.Server by its ConnState. A new connection is
// always taken. If there are too many then, the one that has been idle for longest is closed, or
// the oldest if none is idle: nobody can keep others out by holding connections, however busy.
type FewConnections struct {
	listener string // for the log
	limit    int
	log      *zap.Logger
	Closed   atomic.Int64 // connections closed because there were too many
	alarm    rate.Sometimes

	mu    sync.Mutex
	conns map[net.Conn]*list.Element // in idle or busy
	idle  list.List                  // of net.Conn without a request; the longest idle one first
	busy  list.List                  // of net.Conn with a request that has arrived
}

// NewFewConnections allows a listener limit connections at once.
func NewFewConnections(listener string, limit int, log *zap.Logger) *FewConnections {
	return &FewConnections{
		listener: listener, limit: limit, log: log, conns: map[net.Conn]*list.Element{},
		alarm: rate.Sometimes{First: 1, Interval: 10 * time.Second},
	}
}

// ConnState is for http.Server.ConnState.
func (f *FewConnections) ConnState(c net.Conn, state http.ConnState) {
	victim := f.note(c, state)
	if victim == nil {
		return
	}
	f.Closed.Add(1)
	f.alarm.Do(func() {
		f.log.Warn("too many connections: those that are idle for longest are closed",
			zap.String("listener", f.listener), zap.Int("max", f.limit),
			zap.Int64("closed_since_start", f.Closed.Load()))
	})
	if secure, ok := victim.(*tls.Conn); ok {
		victim = secure.NetConn() // a farewell in TLS may wait for a client that does not read
	}
	_ = victim.Close() // it may be gone already
}

// note gives the connection that has to go, if any.
func (f *FewConnections) note(c net.Conn, state http.ConnState) net.Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	place, known := f.conns[c]
	if known {
		f.idle.Remove(place) // it is in one of the two; the other one ignores it
		f.busy.Remove(place)
	}
	switch {
	case state == http.StateClosed || state == http.StateHijacked:
		delete(f.conns, c)
	case !known && state != http.StateNew: // it had to go
	case state == http.StateActive:
		f.conns[c] = f.busy.PushBack(c)
	default:
		f.conns[c] = f.idle.PushBack(c)
	}
	if state != http.StateNew || len(f.conns) <= f.limit {
		return nil
	}
	from := &f.idle
	if f.idle.Len() == 1 && f.busy.Len() > 0 { // only the new one is idle
		from = &f.busy
	}
	victim := from.Remove(from.Front()).(net.Conn)
	delete(f.conns, victim)
	return victim
}
