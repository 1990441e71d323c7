package test

// Bad input on the wire, bodies: huge, dribbling, cut off. After each, honest requests
// are served and both HSMs are ACTIVE.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const hugeBody = 64 << 20

// zeros is a body of blanks, sent as fast as the other side takes it.
type zeros struct {
	left int64
	sent atomic.Int64 // the transport may read on after the reply
}

func (z *zeros) Read(b []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(z.left, int64(len(b))))
	for i := range b[:n] {
		b[i] = ' '
	}
	z.left -= int64(n)
	z.sent.Add(int64(n))
	return n, nil
}

// 64 MiB, announced and not: refused without being read, from every client.
func TestHugeBodies(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	before := residentMemory(t, p.PID)
	for _, w := range ways {
		for _, announced := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v-announced-%t", w, announced), func(t *testing.T) { p.sendHuge(t, w, announced) })
		}
	}
	var sending sync.WaitGroup
	for i := range 20 {
		sending.Go(func() { p.sendHuge(t, ways[i%len(ways)], i%3 == 0) })
	}
	sending.Wait()
	// Twenty bodies of 64 MiB: what is kept must be nothing like them.
	if grown := residentMemory(t, p.PID) - before; grown > 64<<20 {
		t.Errorf("the proxy grew by %d MiB", grown>>20)
	}
	p.wantHealthy(t)
}

func (p *proxy) sendHuge(t *testing.T, w way, announced bool) {
	c := p.client(t, w)
	r, err := c.request(t.Context(), c.call(encryptURI("key-1"), nil))
	if err != nil {
		t.Error(err)
		return
	}
	body := &zeros{left: hugeBody}
	r.Body, r.ContentLength, r.GetBody = io.NopCloser(body), -1, nil
	if announced {
		r.ContentLength = hugeBody
	}
	reply, err := c.send(r, nil)
	if err != nil {
		// A client that writes on after the refusal may find the connection closed before it reads the reply.
		if announced && w.http2 {
			t.Errorf("no reply: %v", err)
		}
	} else if err := reply.checkError(501, "UnsupportedOperationException"); err != nil {
		t.Error(err)
	}
	if sent := body.sent.Load(); sent > 8<<20 {
		t.Errorf("%d MiB of the body were taken", sent>>20)
	}
}

// A body that comes byte by byte does not get more time than any other (U13).
func TestDribblingBody(t *testing.T) {
	t.Parallel()
	p := newProxy(t, (*settings).withoutLeisure)
	l := p.startLoad(t, http2, 50, 2)
	var dribbling sync.WaitGroup
	for _, w := range ways {
		dribbling.Go(func() { p.dribble(t, w) })
	}
	for range 50 {
		dribbling.Go(func() { p.dribble(t, http1) })
	}
	dribbling.Wait()
	l.end() // its times are others' business: the machine is busy with 50 handshakes
	p.recovers(t)
	p.wantHealthy(t)
}

func (p *proxy) dribble(t *testing.T, w way) {
	c := p.client(t, w)
	k := c.call(encryptURI("key-1"), encode(encryptBody([]byte("x"), nil)))
	r, err := c.request(t.Context(), k)
	if err != nil {
		t.Error(err)
		return
	}
	reader, writer := io.Pipe()
	defer reader.Close()
	go func() {
		for _, b := range k.body {
			_, err := writer.Write([]byte{b})
			if err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	r.Body, r.ContentLength, r.GetBody = reader, int64(len(k.body)), nil
	reply, err := c.send(r, k.body)
	switch {
	case err != nil && !w.http2: // the reply can cross with a byte of the body, and the connection is closed
	case err != nil:
		t.Errorf("%v: %v", w, err)
	default:
		if err := reply.checkError(503, "DependencyTimeoutException"); err != nil {
			t.Errorf("%v: %v", w, err)
		}
		if reply.took > 5*time.Second { // 200 ms, and what 50 handshakes take here; the body takes 20 s
			t.Errorf("%v: an answer after %v", w, reply.took)
		}
	}
}

// A header that comes byte by byte: the connection is closed.
func TestDribblingHeader(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) { s.Server["read_header_timeout"] = "1s" })
	conn := p.dialTLS(t)
	c := p.client(t, http1)
	text := c.bytes(t, c.call(healthURI, encode(healthBody())))
	start := time.Now()
	for _, b := range []byte(text) {
		_, err := conn.Write([]byte{b})
		if err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
		if time.Since(start) > 5*time.Second {
			t.Fatal("a header is awaited forever")
		}
	}
	if r := readRaw(t, conn); r != nil && !r.refusedByNetHTTP() {
		t.Errorf("%v", r)
	}
	if took := time.Since(start); took < 500*time.Millisecond || took > 4*time.Second {
		t.Errorf("closed after %v, want 1s", took)
	}
	p.wantHealthy(t)
}

// A client that goes away in mid-body: the connection closed on HTTP/1.1, RST_STREAM on HTTP/2.
func TestCancelledBody(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	for _, w := range ways {
		t.Run(w.String(), func(t *testing.T) {
			c := p.client(t, w)
			c.fleet(t)
			for range 50 {
				c.cancelInBody(t)
			}
			c.fleet(t) // on HTTP/2 over the very same connection
		})
	}
	eventually(t, 10*time.Second, func() error {
		cut := 0
		for _, line := range p.log.all() {
			if strings.Contains(line, `"operation":"Encrypt"`) && strings.Contains(line, `"outcome":"error"`) {
				cut++
			}
		}
		if cut < 200 {
			return fmt.Errorf("%d of 200 cancelled requests are in the log", cut)
		}
		return nil
	})
	p.wantHealthy(t)
}

func (c *client) cancelInBody(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k := c.call(encryptURI("key-1"), encode(encryptBody(randomBytes(4000), nil)))
	r, err := c.request(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	reader, writer := io.Pipe()
	r.Body, r.ContentLength, r.GetBody = reader, int64(len(k.body)), nil
	go func() {
		_, _ = writer.Write(k.body[:len(k.body)/2]) // the request may have ended
		time.Sleep(5 * time.Millisecond)
		cancel()
		_ = writer.CloseWithError(context.Canceled) // the transport waits for a body that it reads
	}()
	reply, err := c.send(r, k.body)
	switch {
	case err == nil && reply.status == http.StatusOK: // a refusal can be quicker than the client's own end
		t.Errorf("half a body was served: %s", reply.body)
	case err != nil && !errors.Is(err, context.Canceled):
		t.Errorf("a request that was cancelled: %v", err)
	}
}

// Half a body and then silence, on many connections: honest requests go on meanwhile.
func TestStalledBodies(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.withoutLeisure()
		s.Server["first_request_budget"] = "1s"
		s.Server["budget"], s.Server["max_queue_time"] = "1s", "500ms"
	})
	c := p.client(t, http1)
	text := c.bytes(t, c.call(encryptURI("key-1"), encode(encryptBody(randomBytes(4000), nil))))
	var stalled []*tls.Conn
	for range 100 {
		conn := p.dialTLS(t)
		_, err := io.WriteString(conn, text[:len(text)-1000])
		if err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, conn)
	}
	for range 20 {
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
	for _, conn := range stalled {
		r := readRaw(t, conn)
		if r == nil || r.status != http.StatusServiceUnavailable || !strings.Contains(r.body, "DependencyTimeoutException") {
			t.Errorf("%v", r)
		}
	}
	p.wantHealthy(t)
}
