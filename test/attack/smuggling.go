package main

// Two readings of where a request ends: what a load balancer in front takes for one request must
// not be two for the proxy, and nothing may pass with the signature of something else.

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// hidden is what the carrier smuggles: it is answered 404 if it is taken for a request.
const hidden = "POST /smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

// carrier is a signed request around a hidden one.
type carrier struct {
	name  string
	bytes []byte
	legal bool // the carrier itself may be served
	two   bool // two requests by every reading: HTTP has pipelining
}

// reframed replaces Content-Length by other lines, and the body by another way of sending it.
func reframed(s *sketch, lines, body string) []byte {
	text := s.bytes()
	length := fmt.Appendf(nil, "Content-Length: %d\r\n", len(s.body))
	text = bytes.Replace(text, length, []byte(lines), 1)
	head, _, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	return append(append(bytes.Clone(head), "\r\n\r\n"...), body...)
}

func chunked(body string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body) }

func carriers(s *sketch) []carrier {
	body := string(s.body)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	te := "Transfer-Encoding: chunked\r\n"
	one := func(name, lines, body string) carrier { return carrier{name: name, bytes: reframed(s, lines, body)} }
	list := []carrier{
		one("CL.TE: the body ends early", length+te, "0\r\n\r\n"+hidden),
		one("CL.TE: TE first", te+length, "0\r\n\r\n"+hidden),
		one(
			"CL 0 and TE", "Content-Length: 0\r\n"+te, chunked(body)+hidden,
		).legally(), // RFC 9112 section 6.1: by TE alone, then close
		one("TE.CL: a chunk over the rest", "Content-Length: 4\r\n"+te, chunked(hidden+body)),
		one("two CL, the first smaller", "Content-Length: 0\r\n"+length, body+hidden),
		one("two CL, the second smaller", length+"Content-Length: 0\r\n", body+hidden),
		one("CL of two numbers", fmt.Sprintf("Content-Length: %d, 0\r\n", len(body)), body+hidden),
		one("CL with a plus", fmt.Sprintf("Content-Length: +%d\r\n", len(body)), body+hidden),
		one("CL in hexadecimal", fmt.Sprintf("Content-Length: 0x%x\r\n", len(body)), body+hidden),
		one("CL with a blank in it", "Content-Length: 1 0\r\n", body+hidden),
		one("CL negative", "Content-Length: -1\r\n", body+hidden),
		one("CL beyond 64 bits", "Content-Length: 18446744073709551616\r\n", body+hidden),
		one(
			"CL with a vertical tab", fmt.Sprintf("Content-Length: \v%d\r\n", len(body)),
			body+hidden,
		),
		one("CL empty", "Content-Length: \r\n", body+hidden),
		one("no CL", "", body+hidden),
		one("blank before the colon", length+"Transfer-Encoding : chunked\r\n", "0\r\n\r\n"+hidden),
		one("tab before the colon", length+"Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"+hidden),
		one("TE twice", te+te, chunked(body)+hidden),
		one(
			"TE chunked, identity", "Transfer-Encoding: chunked, identity\r\n",
			chunked(body)+hidden,
		),
		one(
			"TE identity, chunked", "Transfer-Encoding: identity, chunked\r\n"+length,
			"0\r\n\r\n"+hidden,
		),
		one("TE xchunked", length+"Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"+hidden),
		one("TE quoted", length+"Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"+hidden),
		one(
			"TE with a vertical tab", length+"Transfer-Encoding: \vchunked\r\n", "0\r\n\r\n"+hidden,
		),
		one(
			"TE with a no-break space", length+"Transfer-Encoding: \xa0chunked\r\n",
			"0\r\n\r\n"+hidden,
		),
		one("TE empty", length+"Transfer-Encoding:\r\n", "0\r\n\r\n"+hidden),
		one(
			"TE with a chunk extension", te,
			fmt.Sprintf("%x;a=b\r\n%s\r\n0\r\n\r\n", len(body), body),
		).legally(),
		one(
			"TE with an extension that holds a line end", te,
			fmt.Sprintf("%x;a=\n%s\r\n0\r\n\r\n", len(body), body),
		).legally(),
		one("a chunk size with a sign", te, fmt.Sprintf("+%x\r\n%s\r\n0\r\n\r\n", len(body), body)),
		one("a chunk size with 0x", te, fmt.Sprintf("0x%x\r\n%s\r\n0\r\n\r\n", len(body), body)),
		one(
			"a chunk size beyond 64 bits", te,
			fmt.Sprintf("1%016x\r\n%s\r\n0\r\n\r\n", len(body), body),
		),
		one(
			"a chunk without its line end", te,
			fmt.Sprintf("%x\r\n%s0\r\n\r\n%s", len(body), body, hidden),
		),
		one(
			"trailers that would be signed headers",
			te+"Trailer: X-Amz-Date\r\n",
			fmt.Sprintf(
				"%x\r\n%s\r\n0\r\nX-Amz-Date: 20200101T000000Z\r\nHost: x\r\n\r\n", len(body), body,
			),
		).legally(),
		one("TE and a whole body", te, chunked(body)).legally(),
		one("Expect, and the body at once", length+"Expect: 100-continue\r\n", body).legally(),
		one("Expect something else", length+"Expect: 200-ok\r\n", body+hidden),
		one(
			"upgrade to h2c",
			length+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
			body,
		).legally(),
		one(
			"upgrade to WebSocket",
			length+"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n",
			body,
		).legally(),
		one(
			"Connection names signed headers",
			length+"Connection: X-Amz-Date, Authorization, Host\r\n", body,
		).legally(),
		one("a request in a header's value", length+"X-A: b\r\n\r\n"+hidden, body),
		one(
			"a bare LF in a header's value",
			length+"X-A: b\n\nPOST /smuggled HTTP/1.1\nHost: localhost\n\n", body,
		),
		one("a bare CR in a header's value", length+"X-A: b\rTransfer-Encoding: chunked\r\n", body),
		one("a NUL in a header's value", length+"X-A: b\x00\r\n", body),
		one("a folded TE", length+"X-A: b\r\n Transfer-Encoding: chunked\r\n", body).legally(),
		one("a folded CL", "Content-Length:\r\n "+fmt.Sprint(len(body))+"\r\n", body).legally(),
		one("a header without a name", length+": b\r\n", body),
		one("a header without a colon", length+"XA b\r\n", body),
		one(
			"a long CL with zeros", fmt.Sprintf("Content-Length: %030d\r\n", len(body)), body,
		).legally(),
		{name: "pipelined", bytes: append(s.bytes(), hidden...), legal: true, two: true},
		{name: "empty lines first", bytes: append([]byte("\r\n\r\n"), s.bytes()...)},
		{
			name:  "an absolute URI of another host",
			bytes: bytes.Replace(s.bytes(), []byte("POST /"), []byte("POST http://other/"), 1),
		},
		{name: "HTTP/0.9", bytes: fmt.Appendf(nil, "POST %s\r\n\r\n", s.target)},
		{
			name: "HTTP/1.0 kept alive, then hidden",
			bytes: append(
				bytes.Replace(
					reframed(s, length+"Connection: keep-alive\r\n", body), []byte(" HTTP/1.1"),
					[]byte(" HTTP/1.0"), 1,
				),
				hidden...),
			legal: true,
			two:   true,
		},
		{
			name: "HTTP/1.0 with TE",
			bytes: bytes.Replace(
				reframed(s, te, chunked(body)), []byte(" HTTP/1.1"), []byte(" HTTP/1.0"), 1,
			),
			legal: true,
		},
		{
			name:  "HTTP/2.0 in words",
			bytes: bytes.Replace(s.bytes(), []byte(" HTTP/1.1"), []byte(" HTTP/2.0"), 1),
		},
		{
			name:  "HTTP/1.10",
			bytes: bytes.Replace(s.bytes(), []byte(" HTTP/1.1"), []byte(" HTTP/1.10"), 1),
		},
		{
			name:  "http/1.1",
			bytes: bytes.Replace(s.bytes(), []byte(" HTTP/1.1"), []byte(" http/1.1"), 1),
		},
		{
			name:  "a tab in the request line",
			bytes: bytes.Replace(s.bytes(), []byte(" HTTP/1.1"), []byte("\tHTTP/1.1"), 1),
		},
		{
			name:  "a request line in the request line",
			bytes: bytes.Replace(s.bytes(), []byte(" HTTP/1.1"), []byte(" HTTP/1.1 HTTP/1.1"), 1),
		},
		{
			name:  "line ends of LF",
			bytes: bytes.Replace(s.bytes(), []byte("\r\n"), []byte("\n"), 9), legal: true,
		},
		{
			name:  "the preface of HTTP/2",
			bytes: append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), s.bytes()...),
		},
	}
	return list
}

// probes are carriers that need no signature: what load balancers ask over HTTPS.
func probes() []carrier {
	const path, te = "GET /healthz/ready ", "Transfer-Encoding: chunked\r\n"
	var list []carrier
	for name, head := range map[string]string{
		"a probe, TE":                      path + "HTTP/1.1\r\nHost: localhost\r\n" + te,
		"a probe, CL and TE":               path + "HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n" + te,
		"a probe, HTTP/1.0 kept alive, TE": path + "HTTP/1.0\r\nConnection: keep-alive\r\n" + te,
		"a probe, HTTP/1.0 kept alive, CL": path + "HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n",
	} {
		list = append(
			list, carrier{name: name, bytes: []byte(head + "\r\n0\r\n\r\n" + hidden), legal: true},
		)
	}
	return list
}

func (c carrier) legally() carrier { c.legal = true; return c }

// smuggling sends every carrier for every operation, whole and cut in two at every place where a
// parser may forget where it was.
func smuggling(ctx context.Context, t *target, n *tally) error {
	who := &t.Tenants[0]
	sketches := func() []*sketch {
		return []*sketch{
			newSketch(t, who, "/health", healthBody()),
			newSketch(t, who, "/keys/"+who.Keys[0]+"/encrypt", encryptBody("smuggled")),
		}
	}
	for i := range sketches() {
		count := len(carriers(sketches()[i]))
		inParallel(ctx, count, 8, func(k int) {
			c := carriers(sketches()[i])[k]
			replies, err := t.askAlone(c.bytes, t.seconds(0.3, 0.15))
			n.judgeCarrier(c, replies, err)
		})
	}
	for _, c := range probes() {
		replies, err := t.askAlone(c.bytes, t.seconds(0.3, 0.15))
		n.judgeCarrier(c, replies, err)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("not all carriers were sent: %w", ctx.Err())
	}
	return nil
}

func (n *tally) judgeCarrier(c carrier, replies []*reply, err error) {
	if len(replies) == 0 {
		n.noteReply(nil, err)
		return
	}
	r := replies[0]
	n.noteReply(r, nil)
	switch {
	case r.status == 200 && c.legal:
		n.legal()
	case r.status == 200:
		n.accept("served: %s", c.name)
	}
	if c.two {
		return
	}
	for _, more := range replies[1:] {
		if more.status == 404 && strings.Contains(string(more.body), "InvalidUriPath") ||
			more.status == 200 {
			n.accept("the hidden request is answered: %s: %d %s", c.name, more.status, more.body)
		}
	}
}
