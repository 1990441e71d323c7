package main

// Slow clients, and clients that only hold connections.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// dribble writes a byte every second and returns how long the server waited before it closed.
func dribble(ctx context.Context, c net.Conn, text []byte) time.Duration {
	start := time.Now()
	for _, b := range text {
		_, err := c.Write([]byte{b})
		if err != nil || ctx.Err() != nil {
			break
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second)) // a closed connection tells by the read
		_, err = io.Copy(io.Discard, c)
		if err == nil || !isTimeout(err) {
			break
		}
	}
	return time.Since(start)
}

// slowWriters send handshakes, headers and bodies, a byte a second. The server must not wait: its
// limits are 5 s for a handshake and a header, and the budget of a request for a body.
func slowWriters(ctx context.Context, t *target, n *tally) error {
	const mostPatience = 9 * time.Second
	span := 20 * time.Second
	if t.Short {
		span = 2500 * time.Millisecond // the limits are tested elsewhere, too
	}
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	count := t.amount(900, 90)
	var longest [3]atomic.Int64
	var ended atomic.Int64
	inParallel(context.WithoutCancel(ctx), count, count, func(i int) {
		raw, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		defer raw.Close()
		c := raw
		text := append([]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), make([]byte, 200)...)
		if i%3 > 0 {
			_ = raw.SetDeadline(time.Now().Add(replyLimit)) // the handshake tells
			secure := tls.Client(raw, t.tlsConfig("http/1.1"))
			err := secure.Handshake()
			if err != nil {
				n.note("no handshake")
				return
			}
			_ = raw.SetDeadline(time.Time{})
			c = secure
			text = newSketch(t, &t.Tenants[1], "/health", healthBody()).bytes()
		}
		if i%3 == 2 { // the header at once, the body slowly
			head := len(text) - len(healthBody())
			_, _ = c.Write(text[:head]) // dribble tells
			text = text[head:]
		}
		took := dribble(ctx, c, text)
		n.note("dribbled " + []string{"handshake", "header", "body"}[i%3])
		if ctx.Err() == nil {
			ended.Add(1)
		}
		if best := longest[i%3].Load(); int64(took) > best {
			longest[i%3].Store(int64(took))
		}
		if took > mostPatience && ctx.Err() == nil {
			n.accept(
				"the server waited %v for a %s", took, []string{"handshake", "header", "body"}[i%3],
			)
		}
	})
	if !t.Short && ended.Load() < int64(count) {
		n.accept(
			"%d of %d slow writers were still connected after %v", int64(count)-ended.Load(), count,
			span,
		)
	}
	n.remark(
		"the server waited at most %.1f s for a handshake, %.1f s for a header, %.1f s for a "+
			"body (steps of 1 s)",
		time.Duration(longest[0].Load()).
			Seconds(),
		time.Duration(longest[1].Load()).Seconds(),
		time.Duration(longest[2].Load()).Seconds(),
	)
	return nil
}

// slowReaders ask, at a moderate rate, and never read: unsigned, and a tenant, whose answers are
// long enough to fill what the system buffers. The server must close when it cannot write (write
// time-out: 15 s).
func slowReaders(ctx context.Context, t *target, n *tally) error {
	span := t.seconds(40, 1.5)
	count := t.amount(60, 30)
	long := newSketch(
		t, &t.Tenants[1], "/keys/"+t.Tenants[1].Keys[0]+"/encrypt", []byte(encryptOf(8192, 0)()),
	).bytes()
	strange := newSketch(
		t, &t.Tenants[1], "/health", healthBody(),
	).edited(func(s *sketch) { s.secret = "nobody's" }).
		bytes()
	inParallel(ctx, count, count, func(i int) {
		raw, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		defer raw.Close()
		if tcp, ok := raw.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(1) // as small as the system allows
		}
		_ = raw.SetDeadline(time.Now().Add(replyLimit))
		c := tls.Client(raw, t.tlsConfig("http/1.1"))
		err = c.Handshake()
		if err != nil {
			n.note("no handshake")
			return
		}
		text, what := strange, "unsigned"
		if i%6 == 0 {
			text, what = long, "signed"
		}
		end := time.Now().Add(span)
		_ = raw.SetDeadline(end)
		for time.Now().Before(end) {
			_, err := c.Write(text)
			if err != nil {
				break
			}
			n.note(what)
			time.Sleep(25 * time.Millisecond)
		}
		if time.Until(end) > 0 {
			n.answered("closed by the server", 1)
		}
	})
	return nil
}

// pipelines send short unsigned requests as fast as they are taken, and never read an answer: the
// server has to wait when what the system buffers is full, with a request at work.
func pipelines(ctx context.Context, t *target, n *tally) error {
	span := t.seconds(15, 1)
	requests := bytes.Repeat([]byte("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), 64)
	inParallel(ctx, 8, 8, func(int) {
		end := time.Now().Add(span)
		for time.Now().Before(end) && ctx.Err() == nil {
			c, err := t.dialTLS(t.tlsConfig("http/1.1"))
			if err != nil {
				n.note("no connection")
				continue
			}
			_ = c.SetDeadline(end)
			for err == nil {
				_, err = c.Write(requests)
				n.noteMany("pipelined", 64)
				if t.Short { // paced, as floods of frames are
					time.Sleep(20 * time.Millisecond)
				}
			}
			_ = c.Close()
		}
	})
	return nil
}

// idleConnections hold more connections than the program accepts, half of them after a handshake.
// New honest clients must still get in.
func idleConnections(ctx context.Context, t *target, n *tally) error {
	count := t.amount(10_200, 600)
	conns := make([]net.Conn, count)
	config := t.tlsConfig("http/1.1")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	inParallel(ctx, count, 32, func(i int) {
		if i%2 == 0 {
			raw, err := dial(t.API)
			if err == nil {
				conns[i] = raw
			}
			return
		}
		secure, err := t.dialTLS(config)
		if err == nil {
			_ = secure.SetDeadline(time.Time{})
			conns[i] = secure
		}
	})
	opened := 0
	for _, c := range conns {
		if c != nil {
			opened++
		}
	}
	n.noteMany("opened", opened)
	n.noteMany("no connection", count-opened)
	for range 5 {
		c := &wire{target: t}
		r, err := c.ask(newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes())
		c.close()
		n.noteReply(r, err)
		if r == nil || r.status != 200 {
			n.accept("a new honest client is locked out: %v %v", r, err)
		} else {
			n.legal()
		}
	}
	time.Sleep(t.seconds(15, 0.5))
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
	if opened < count*9/10 {
		return fmt.Errorf(
			"only %d of %d connections could be opened: raise the limit on open files", opened,
			count,
		)
	}
	return nil
}
