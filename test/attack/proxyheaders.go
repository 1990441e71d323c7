package main

// Headers of the PROXY protocol by those who may not send them, and wrong ones by the one who must:
// each with a TLS handshake and a request that is signed well behind it.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// trustedBalancer is the address that the port for a load balancer trusts. No attacker has it.
const trustedBalancer = "127.0.0.9"

// goodHeaders are those that a load balancer sends: about a client, and for itself.
func goodHeaders() map[string][]byte {
	client := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 54321}
	server := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 443}
	headers := map[string][]byte{"v1 unknown": []byte("PROXY UNKNOWN\r\n")}
	for name, h := range map[string]*proxyproto.Header{
		"v1":       proxyproto.HeaderProxyFromAddrs(1, client, server),
		"v2":       proxyproto.HeaderProxyFromAddrs(2, client, server),
		"v2 local": {Version: 2, Command: proxyproto.LOCAL},
	} {
		text, err := h.Format()
		if err != nil {
			panic(err) // these can be written
		}
		headers[name] = text
	}
	return headers
}

// wrongHeaders are those that not even a load balancer may send.
func wrongHeaders() map[string][]byte {
	good := goodHeaders()["v2"]
	headers := map[string][]byte{
		"no header":            nil,
		"v1, cut short":        []byte("PROXY TCP4 192.0.2.7\r\n"),
		"v1, no such address":  []byte("PROXY TCP4 256.0.2.7 10.0.0.1 1 2\r\n"),
		"v1, without CR":       []byte("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n"),
		"v1, lower case":       []byte("proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n"),
		"v1, UDP":              []byte("PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n"),
		"v1, a blank before":   []byte(" PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"),
		"v1, long":             append([]byte("PROXY TCP4 "), bytes.Repeat([]byte("1"), 5000)...),
		"v2, half a signature": good[:6],
	}
	for name, change := range map[string]func(b []byte){
		"v2, version 3":   func(b []byte) { b[12] = 0x31 },
		"v2, command 2":   func(b []byte) { b[12] = 0x22 },
		"v2, UDP":         func(b []byte) { b[13] = 0x12 },
		"v2, Unix socket": func(b []byte) { b[13] = 0x31 },
		"v2, no family":   func(b []byte) { b[13] = 0 },
		"v2, too short":   func(b []byte) { b[15] = 4 },
		"v2, too long":    func(b []byte) { b[14] = 0xff },
	} {
		changed := bytes.Clone(good)
		change(changed)
		headers[name] = changed
	}
	return headers
}

// proxyHeaders forges addresses: from elsewhere, from the load balancer's clients through it, and
// on the port that trusts nobody.
func proxyHeaders(ctx context.Context, t *target, n *tally) error {
	for range t.amount(20, 2) {
		for name, header := range goodHeaders() {
			t.beginWith(n, t.Balanced, trustedBalancer, header, "")
			t.beginWith(n, t.Balanced, "", header, "from an untrusted source: "+name)
			for _, from := range []string{"", trustedBalancer} {
				t.beginWith(n, t.API, from, header, "to a port that trusts nobody: "+name)
			}
			for second, forged := range goodHeaders() {
				what := "behind the balancer: " + name + ", " + second
				t.beginWith(n, t.Balanced, trustedBalancer, slices.Concat(header, forged), what)
			}
		}
		for name, header := range wrongHeaders() {
			t.beginWith(n, t.Balanced, trustedBalancer, header, "of the balancer: "+name)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// beginWith connects, sends a header, and asks over TLS. what is what must not be answered; "": it
// may be. from is an address, or "" for any untrusted one.
func (t *target) beginWith(n *tally, address, from string, header []byte, what string) {
	raw, err := dialFrom(address, from)
	if err != nil {
		n.note("no connection")
		return
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(replyLimit)) // the handshake tells
	_, _ = raw.Write(header)                        // likewise
	secure := tls.Client(raw, t.tlsConfig("http/1.1"))
	c := &wire{target: t, conn: secure, reader: bufio.NewReader(secure)}
	r, err := c.ask(newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes())
	n.noteReply(r, errClosedIfRefused(err))
	switch {
	case what == "" && r != nil:
		n.legal()
	case what == "":
		n.remark("the load balancer itself was refused: %v", err)
	case r != nil:
		n.accept("%s: %s", what, r.name())
	}
}

// errClosedIfRefused: a handshake that the server ended is a connection that was closed.
func errClosedIfRefused(err error) error {
	if err == nil || isTimeout(err) {
		return err
	}
	return errClosed
}
