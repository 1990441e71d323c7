package test

// Many of something: connections, handshakes, unknown keys, tampered ciphertexts. Memory
// stays bounded and honest requests go on.

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// honestP99 bounds what honest requests take meanwhile, on a machine of two cores that also
// runs the attack and other tests; make attack measures.
const honestP99 = 2 * time.Second

// 2,000 connections that do nothing, after a TLS handshake or without one.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	p.wantHealthy(t)
	before := residentMemory(t, p.PID)
	const idle = 2000
	conns := make([]net.Conn, idle)
	var dialling sync.WaitGroup
	for worker := range 8 {
		dialling.Go(func() {
			for i := worker; i < idle; i += 8 {
				conns[i] = p.dialIdle(t, i%4 == 0)
			}
		})
	}
	dialling.Wait()
	l := p.startLoad(t, http1, 200, 8)
	eventually(t, time.Minute, func() error {
		if l.count() < 300 {
			return errNotYet
		}
		return nil
	})
	l.wantNoFailure(t, 200)
	if p99 := l.percentile(99); p99 > honestP99 {
		t.Errorf("p99 of honest requests: %v", p99)
	}
	grown := residentMemory(t, p.PID) - before
	t.Logf("%d connections, the proxy grew by %d MiB", idle, grown>>20)
	if grown > 256<<20 {
		t.Errorf("the proxy grew by %d MiB for %d connections", grown>>20, idle)
	}
	for _, conn := range conns {
		if conn != nil {
			conn.Close()
		}
	}
	p.wantHealthy(t)
}

// dialIdle connects and does no more than the handshake; without one the program ends the
// connection after its limit, which no test waits for.
func (p *proxy) dialIdle(t *testing.T, handshake bool) net.Conn {
	conn, err := net.DialTimeout("tcp", p.Listen, rawLimit)
	if err != nil {
		t.Error(err)
		return nil
	}
	if !handshake {
		return conn
	}
	secure := tls.Client(conn, http2.tlsConfig(p))
	err = secure.Handshake()
	if err != nil {
		t.Errorf("handshake: %v", err)
	}
	return secure
}

// Strangers who hold all connections lock nobody out: the oldest of them gives way. With all
// taken by clients of the only key store that have authenticated, a new one is closed. (Of several key stores, pkg/xks:
// TestGreedyTenantGivesWay.)
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	const limit = 20
	p := newProxy(t, func(s *settings) { s.Server["max_connections"], s.KeyStores = limit, s.KeyStores[:1] })
	strangers := make([]net.Conn, limit)
	for i := range strangers {
		strangers[i] = p.dialIdle(t, false)
	}
	known := make([]*client, limit)
	for i := range known {
		known[i] = p.client(t, http1) // a connection of its own
		known[i].fleet(t)
	}
	for i, conn := range strangers {
		err := conn.SetReadDeadline(time.Now().Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Read(make([]byte, 1))
		if err == nil || !isClosed(err) {
			t.Errorf("stranger %d holds a connection: %v", i, err)
		}
		conn.Close()
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, http1.tlsConfig(p))
	if err == nil {
		conn.Close()
		t.Error("a connection beyond the limit")
	}
	for _, c := range known {
		c.fleet(t) // they were not disturbed
		c.http.CloseIdleConnections()
	}
	eventually(t, startLimit, func() error {
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: rawLimit}, "tcp", p.Listen, http1.tlsConfig(p))
		if err == nil {
			conn.Close()
		}
		return err
	})
	p.wantHealthy(t)
}

// Handshakes that begin and never end, half a ClientHello each.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) { s.Server["read_header_timeout"] = "1s" })
	var conns []net.Conn
	for range 300 {
		conn := p.dialIdle(t, false)
		_, err := io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	start := time.Now()
	c := p.client(t, http1)
	for range 20 {
		c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	}
	for _, conn := range conns {
		err := conn.SetReadDeadline(start.Add(5 * time.Second))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(conn)
		if err != nil && !isClosed(err) {
			t.Fatalf("a handshake is awaited for %v: %v", time.Since(start), err)
		}
		conn.Close()
	}
	p.wantHealthy(t)
}

// Unknown key ids cost the HSMs a look each: a flood of them is shed, and known keys are
// served meanwhile.
func TestUnknownKeyFlood(t *testing.T) {
	p := newProxy(t, nil)
	l := p.startLoad(t, http1, 100, 4)
	c := p.client(t, http2)
	before := residentMemory(t, p.PID)
	var mu sync.Mutex
	names := map[string]int{}
	var asking sync.WaitGroup
	for i := range 500 {
		asking.Go(func() {
			r, err := c.do(t.Context(), c.call(encryptURI(fmt.Sprint("unknown-", i)), encode(encryptBody([]byte("x"), nil))))
			name := "no reply"
			if err == nil {
				var body struct{ ErrorName string }
				_ = decodeInto(r.body, &body) // its name is then empty, which is counted
				name = fmt.Sprint(r.status, " ", body.ErrorName)
			}
			mu.Lock()
			names[name]++
			mu.Unlock()
		})
	}
	asking.Wait()
	t.Logf("%v", names)
	notFound, shed := names["404 KeyNotFoundException"], names["429 ThrottlingException"]
	if notFound+shed != 500 || notFound == 0 || shed == 0 || notFound > 200 {
		t.Errorf("%v: want a few KeyNotFoundException, and ThrottlingException else", names)
	}
	if grown := residentMemory(t, p.PID) - before; grown > 64<<20 {
		t.Errorf("the proxy grew by %d MiB", grown>>20)
	}
	l.wantNoFailure(t, 10)
	p.wantHealthy(t)
	// By the proxy's own clock: the client's includes 500 signatures on the same cores.
	if slowest := p.slowest(t, `"key":"key-1"`); slowest > honestP99 {
		t.Errorf("a request with a known key took the proxy %v", slowest)
	}
}

// slowest is the longest time that the log tells of requests with text in their line.
func (p *proxy) slowest(t testing.TB, text string) time.Duration {
	t.Helper()
	p.log.wait(t, startLimit, p.Exited(), func(line string) bool { return strings.Contains(line, text) })
	longest := 0.0
	for _, line := range p.log.all() {
		if !strings.Contains(line, text) {
			continue
		}
		took, ok := parseLine(t, line)["duration_ms"].(float64)
		if !ok {
			t.Fatalf("no duration_ms in %s", line)
		}
		longest = max(longest, took)
	}
	return time.Duration(longest * float64(time.Millisecond))
}

// tamperedRate is what should be withstood a second. A machine that also signs the requests and runs other
// tests may not reach it; the test says what it did reach.
const tamperedRate = 1000

// Tampered ciphertexts make some modules leak and some proxies blame the HSM.
func TestTamperedCiphertexts(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	c := p.client(t, http1)
	s := c.encrypt(t, "key-1", encryptBody(randomBytes(4096), []byte("aad")))
	attack := func(n int) {
		start := time.Now()
		const clients = 16
		var asking sync.WaitGroup
		for range clients {
			asking.Go(func() {
				for i := range n / clients {
					bad := *s
					bad.AuthenticationTag = flipped(s.AuthenticationTag, i%128)
					r, err := c.do(t.Context(), c.call(decryptURI("key-1"), encode(decryptBody(&bad, []byte("aad")))))
					if err == nil {
						err = r.checkError(http.StatusBadRequest, "InvalidCiphertextException")
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		asking.Wait()
		rate := float64(n) / time.Since(start).Seconds()
		t.Logf("%d tampered ciphertexts, %.0f a second", n, rate)
		if rate < tamperedRate/10 {
			t.Errorf("only %.0f tampered ciphertexts a second, which is no attack", rate)
		}
	}
	attack(1600) // until buffers and heaps have their size
	before := p.memory(t)
	attack(5 * tamperedRate)
	for name, now := range p.memory(t) {
		grown := now - before[name]
		t.Logf("%s grew by %d KiB", name, grown>>10)
		if grown > 12<<20 { // what leaked would be 5000 times 4 KiB, 20 MiB, half of it on each HSM
			t.Errorf("%s grew by %d MiB", name, grown>>20)
		}
	}
	if line := p.log.find(func(line string) bool {
		return containsAny(line, `"hsm_faults"`, "HSM suspected", "taken out of service", `"to":"DEGRADED"`, `"to":"UNAVAILABLE"`, "will be started again")
	}); line != "" {
		t.Errorf("an HSM is blamed: %s", line)
	}
	p.wantHealthy(t)
}

// memory is the RSS of the proxy and of its workers.
func (p *proxy) memory(t testing.TB) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{"the proxy": residentMemory(t, p.PID)}
	for _, w := range p.workers() {
		sizes["the process of "+w.HSM] = residentMemory(t, w.PID)
	}
	return sizes
}
