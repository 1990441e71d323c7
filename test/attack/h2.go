package main

// A client of HTTP/2 that keeps no rule: frames and header fields as they are told.

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is one connection. Frames are written by one goroutine at a time.
type h2 struct {
	conn    *tls.Conn
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
}

func (t *target) dialH2() (*h2, error) { return t.dialH2With(t.tlsConfig("h2")) }

func (t *target) dialH2With(config *tls.Config) (*h2, error) {
	conn, err := t.dialTLS(config)
	if err != nil {
		return nil, err
	}
	c := &h2{conn: conn, framer: http2.NewFramer(conn, conn), next: 1}
	c.framer.AllowIllegalWrites = true
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.encoder = hpack.NewEncoder(&c.block)
	_, err = io.WriteString(conn, http2.ClientPreface)
	if err == nil {
		err = c.framer.WriteSettings()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *h2) close() { _ = c.conn.Close() } // the other side may have closed it

// headers gives the block of header fields, in this order.
func (c *h2) headers(fields []header) []byte {
	c.block.Reset()
	for _, f := range fields {
		_ = c.encoder.WriteField(
			hpack.HeaderField{Name: f.name, Value: f.value, Sensitive: true},
		) // to memory
	}
	return bytes.Clone(c.block.Bytes())
}

// open sends a block as a new stream.
func (c *h2) open(block []byte, endStream bool) (uint32, error) {
	id := c.next
	c.next += 2
	return id, c.framer.WriteHeaders(
		http2.HeadersFrameParam{
			StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: endStream,
		},
	)
}

// fieldsOf is a signed sketch as HTTP/2 has it.
func fieldsOf(s *sketch) []header {
	fields := []header{
		{":method", s.method}, {":scheme", "https"}, {":authority", s.get("Host")},
		{":path", s.target},
	}
	for _, h := range s.sign() {
		if h.name != "Host" {
			fields = append(fields, header{strings.ToLower(h.name), h.value})
		}
	}
	return fields
}

// ask sends one stream and gives its status, or how it was refused.
func (c *h2) ask(fields []header, body []byte) (string, error) {
	err := c.conn.SetDeadline(time.Now().Add(replyLimit))
	if err != nil {
		return "", err
	}
	id, err := c.open(c.headers(fields), false)
	if err != nil {
		return "closed", nil // the server closed: that is the answer
	}
	if err := c.framer.WriteData(id, true, body); err != nil {
		return "closed", nil // the server closed: that is the answer
	}
	for {
		frame, err := c.framer.ReadFrame()
		var streamError http2.StreamError
		switch {
		case errors.As(err, &streamError):
			return "malformed answer", nil
		case err != nil && isTimeout(err):
			return "no answer", nil
		case err != nil:
			return "closed", nil // the server closed: that is the answer
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				return f.PseudoValue("status"), nil
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return "reset " + f.ErrCode.String(), nil
			}
		case *http2.GoAwayFrame:
			return "GOAWAY " + f.ErrCode.String(), nil
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck() // the next read tells
			}
		}
	}
}

// drain reads until the connection ends, and counts what kinds of frames came. The function that it
// gives waits for the end.
func (c *h2) drain() func() map[string]int {
	counts := map[string]int{}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			head := make([]byte, 9)
			_, err := io.ReadFull(c.conn, head)
			if err != nil {
				return
			}
			length := int64(head[0])<<16 | int64(head[1])<<8 | int64(head[2])
			payload := io.LimitReader(c.conn, length)
			if http2.FrameType(head[3]) == http2.FrameGoAway {
				last := make([]byte, 8)
				_, _ = io.ReadFull(payload, last) // a short one tells as much
				counts["GOAWAY "+http2.ErrCode(last[7]).String()]++
			} else {
				counts[http2.FrameType(head[3]).String()]++
			}
			_, _ = io.Copy(io.Discard, payload)
		}
	})
	return func() map[string]int {
		reading.Wait()
		return counts
	}
}

// flood writes frames until the time is over or the server has enough; write is called with how
// many were written.
func (c *h2) flood(span time.Duration, write func(n int) error) int {
	deadline := time.Now().Add(span)
	_ = c.conn.SetDeadline(
		deadline.Add(time.Second),
	) // a closed connection tells by the first write
	for n := 0; ; n++ {
		if time.Now().After(deadline) {
			return n
		}
		err := write(n)
		if err != nil {
			return n
		}
	}
}

// A short run is paced, to some 16,000 frames a second: it shows that they do no harm by
// themselves. As fast as can be, they take the processors from the honest client of the same
// machine as well, which no test can rely on.
const (
	shortBurst = 8
	shortPause = 2 * time.Millisecond
)

// abused is what floods of frames have in common: connections, one flood each, again until the time
// is over.
func abused(t *target, n *tally, span time.Duration, write func(c *h2, n int) error) {
	deadline := time.Now().Add(span)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for time.Now().Before(deadline) {
				c, err := t.dialH2()
				if err != nil {
					n.note("no connection")
					continue
				}
				frames := c.drain()
				written := c.flood(time.Until(deadline), func(k int) error {
					if t.Short && k%shortBurst == 0 {
						time.Sleep(shortPause)
					}
					return write(c, k)
				})
				c.closeWrite()
				_ = c.conn.SetReadDeadline(
					time.Now().Add(2 * time.Second),
				) // for what it says in the end
				counts := frames()
				c.close()
				n.noteMany("frames sent", written)
				for name, count := range counts {
					n.answered(name, count)
				}
			}
		})
	}
	running.Wait()
}

func (c *h2) closeWrite() {
	if raw, ok := c.conn.NetConn().(*net.TCPConn); ok {
		_ = raw.CloseWrite() // the other side may have closed it
	}
}

// answered counts an answer that belongs to no one try.
func (n *tally) answered(name string, count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.Answers["got "+name] += count
}

func describe(fields []header) string {
	var parts []string
	for _, f := range fields {
		parts = append(parts, fmt.Sprintf("%s=%q", f.name, f.value))
	}
	return strings.Join(parts, " ")
}
