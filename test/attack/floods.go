package main

// Floods below HTTP, and what is not TLS at all.

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// handshakeFlood makes whole handshakes, none resumed, and leaves.
func handshakeFlood(ctx context.Context, t *target, n *tally) error {
	until(ctx, t.seconds(10, 0.7), 16, func() {
		c, err := t.dialTLS(t.tlsConfig("http/1.1"))
		if err != nil {
			n.note("no handshake")
			return
		}
		n.note("handshake")
		_ = c.Close()
	})
	return nil
}

// clientHello is the first message of a handshake.
func clientHello(config *tls.Config) []byte {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go func() { _ = tls.Client(theirs, config).Handshake() }() // it is cut off
	hello := make([]byte, 4096)
	_ = ours.SetReadDeadline(time.Now().Add(time.Second))
	length, err := ours.Read(hello)
	if err != nil {
		return nil
	}
	return hello[:length]
}

// halfOpen sends a ClientHello, has the server compute its half of the handshake, and stays silent.
func halfOpen(ctx context.Context, t *target, n *tally) error {
	hello := clientHello(t.tlsConfig("http/1.1"))
	if hello == nil {
		return fmt.Errorf("no ClientHello was made")
	}
	var held atomic.Int64
	until(ctx, t.seconds(12, 0.8), 64, func() {
		if held.Load() > int64(t.amount(4000, 300)) {
			time.Sleep(50 * time.Millisecond)
			return
		}
		c, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		_, err = c.Write(hello)
		if err != nil {
			n.note("closed")
			_ = c.Close()
			return
		}
		n.note("left half-open")
		held.Add(1)
		time.AfterFunc(7*time.Second, func() {
			held.Add(-1)
			_ = c.Close()
		})
	})
	return nil
}

// helloClose sends a ClientHello and leaves before the answer: the server works for nobody.
func helloClose(ctx context.Context, t *target, n *tally) error {
	hello := clientHello(t.tlsConfig("http/1.1"))
	if hello == nil {
		return fmt.Errorf("no ClientHello was made")
	}
	until(ctx, t.seconds(15, 0.7), 4, func() {
		c, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		_, err = c.Write(hello)
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		if err != nil {
			n.note("closed")
			return
		}
		n.note("left after the ClientHello")
	})
	return nil
}

// connectClose connects and goes away, by a reset every other time.
func connectClose(ctx context.Context, t *target, n *tally) error {
	until(ctx, t.seconds(10, 0.7), 8, func() {
		c, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		if tcp, ok := c.(*net.TCPConn); ok && rand.IntN(2) == 0 {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
		n.note("connected")
	})
	return nil
}

// garbage sends other protocols, old TLS and broken TLS to the port of the API.
func garbage(ctx context.Context, t *target, n *tally) error {
	hello := clientHello(t.tlsConfig("http/1.1"))
	random := rand.New(rand.NewPCG(t.Seed, 2))
	plain := newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes()
	texts := [][]byte{
		nil, plain, []byte("GET / HTTP/1.0\r\n\r\n"), []byte("SSH-2.0-x\r\n"), []byte("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"), // SSL 2
		[]byte(
			"\x15\x03\x01\x00\x02\x02\x28",
		), []byte("\x17\x03\x03\xff\xff"), []byte("\x16\x03\x01\xff\xff"), bytes.Repeat([]byte("\x15\x03\x03\x00\x02\x01\x00"), 1000),
		append(
			bytes.Clone(hello),
			plain...), append([]byte("PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n"), hello...), make([]byte, 100_000),
	}
	for range t.amount(2000, 100) {
		changed := bytes.Clone(hello)
		for range 1 + random.IntN(5) {
			changed[random.IntN(len(changed))] = byte(random.IntN(256))
		}
		texts = append(texts, changed)
		noise := make([]byte, 1+random.IntN(300))
		for i := range noise {
			noise[i] = byte(random.IntN(256))
		}
		texts = append(texts, noise)
	}
	inParallel(ctx, len(texts), 64, func(i int) {
		c, err := dial(t.API)
		if err != nil {
			n.note("no connection")
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(t.seconds(7, 0.4)))
		_, _ = c.Write(texts[i]) // the answer tells
		answer, err := io.ReadAll(io.LimitReader(c, 1<<16))
		switch {
		case bytes.HasPrefix(answer, []byte("HTTP/1.0 400")):
			n.note("400 over plain HTTP")
		case bytes.HasPrefix(answer, []byte("HTTP")):
			n.note("plain HTTP")
			n.accept("plain HTTP on the TLS port: %q", answer)
		case len(answer) > 0 && answer[0] == 0x15:
			n.note("alert")
		case len(answer) > 0:
			n.note("ServerHello") // what was changed in the ClientHello did not matter yet
		case err != nil && isTimeout(err):
			n.note("waits for more")
		default:
			n.note("closed")
		}
	})
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		config := t.tlsConfig("http/1.1")
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, version
		oldTLS(t, n, config, tls.VersionName(version))
	}
	for _, suite := range append(tls.InsecureCipherSuites(), tls.CipherSuites()...) {
		if strings.Contains(suite.Name, "ECDHE") && !strings.Contains(suite.Name, "CBC") &&
			!strings.Contains(suite.Name, "RC4") ||
			suite.SupportedVersions[0] == tls.VersionTLS13 {
			continue
		}
		config := t.tlsConfig("http/1.1")
		config.MaxVersion, config.CipherSuites = tls.VersionTLS12, []uint16{suite.ID}
		oldTLS(t, n, config, suite.Name)
	}
	return nil
}

// oldTLS tries a handshake that must fail.
func oldTLS(t *target, n *tally, config *tls.Config, what string) {
	c, err := t.dialTLS(config)
	if err != nil {
		n.note("no handshake")
		return
	}
	n.note("handshake")
	_ = c.Close()
	n.accept("a handshake with %s", what)
}

// healthPort abuses the plain port for load balancers: other paths and methods, garbage, slow
// clients, and as many requests as possible.
func healthPort(ctx context.Context, t *target, n *tally) error {
	served := map[string]bool{"/healthz/live": true, "/healthz/ready": true, "/metrics": true}
	paths := []string{
		"/", "/healthz", "/healthz/", "/healthz/../kms/xks/v1/health", "/agency/kms/xks/v1/health",
		"/debug/pprof/", "/debug/vars", "/healthz/live/", "/healthz//live", "/HEALTHZ/live",
		"/%68ealthz/live", "/metrics/", "/metrics/../admin", "/v1/hsms", "/hsm", "/admin", "/.env",
		"/..%2f..%2fetc/passwd", "/" + strings.Repeat("a", 60_000),
		"/" + strings.Repeat("a", 2_000_000),
	}
	for path := range served {
		paths = append(paths, path)
	}
	for _, path := range paths {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE", "OPTIONS", "X"}[:t.amount(9, 3)] {
			text := fmt.Sprintf(
				"%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
				method, path,
			)
			status := plainStatus(t.Health, []byte(text))
			n.note(status)
			switch {
			case status != "200":
			case served[path] && method == "GET":
				n.legal()
			default:
				n.accept("%s %.60s on the health port", method, path)
			}
		}
	}
	inParallel(ctx, t.amount(300, 60), 300, func(i int) { // slow ones
		c, err := dialHealth(t.Health)
		if err != nil {
			n.note("no connection")
			return
		}
		defer c.Close()
		short, cancel := context.WithTimeout(ctx, t.seconds(9, 0.8))
		defer cancel()
		dribble(
			short, c,
			[]byte("GET /healthz/ready HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 100)),
		)
		n.note("dribbled")
	})
	until(ctx, t.seconds(5, 0.6), 8, func() {
		text := strings.Repeat(
			"GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n", 32,
		) + "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		n.note(plainStatus(t.Health, []byte(text)))
		n.legal()
	})
	return nil
}

// dialHealth does without another source address: the health port may be on one interface only.
func dialHealth(address string) (net.Conn, error) {
	return net.DialTimeout("tcp", address, replyLimit)
}

// plainStatus sends bytes without TLS, reads all there is and gives the first status.
func plainStatus(address string, text []byte) string {
	c, err := dialHealth(address)
	if err != nil {
		return "no connection"
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(replyLimit))
	_, _ = c.Write(text) // the answer tells
	answer, err := io.ReadAll(c)
	if len(answer) < 12 {
		if err != nil && isTimeout(err) {
			return "no answer"
		}
		return "closed"
	}
	return string(answer[9:12])
}
