package test

// The PROXY protocol on the real program: addresses of the loopback are the load balancer, its
// clients and strangers.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

const (
	balancer    = "127.0.0.7"
	outsider    = "127.0.0.8"
	headerCount = "xks_proxy_proxy_protocol_connections_total"
)

// balanced has the main port trust the load balancer.
func balanced(s *settings) {
	s.Server["proxy_protocol"] = object{"trusted": []string{balancer}}
	s.Server["listeners"] = []object{{"listen": "127.0.0.3:0"}}
}

// header is one that a load balancer sends about a client.
func header(t testing.TB, version byte, client string) string {
	t.Helper()
	address := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	h := proxyproto.HeaderProxyFromAddrs(version, address, &net.TCPAddr{IP: address.IP, Port: 443})
	text, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// localHeader is that of a health check.
func localHeader(t testing.TB) string {
	t.Helper()
	text, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// behind is a client whose connections come from an address and begin with a header.
func (p *proxy) behind(t testing.TB, w way, from, begins string) *client {
	t.Helper()
	c := p.client(t, w)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := c.http.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		_, err = io.WriteString(conn, begins)
		return conn, err
	}
	return c
}

// remoteOf asks for an Encrypt and reads the client's address in its line of the log.
func (c *client) remoteOf(t testing.TB) string {
	t.Helper()
	reply := c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil))
	if reply.status != http.StatusOK {
		t.Fatalf("%d: %s", reply.status, reply.body)
	}
	_, after, _ := strings.Cut(reply.line(), `"remote":"`)
	remote, _, _ := strings.Cut(after, `"`)
	return remote
}

// wantHeaders is for counts of connections by outcome.
func (p *proxy) wantHeaders(t testing.TB, outcome string, want int) {
	t.Helper()
	name := fmt.Sprintf("%s{outcome=%q}", headerCount, outcome)
	if got := p.metric(t, name); got != itoa(want) {
		t.Errorf("%s is %q, want %d", name, got, want)
	}
}

// The log has the address that the load balancer states, with every version of everything.
func TestPROXYProtocol(t *testing.T) {
	t.Parallel()
	p := newProxy(t, balanced)
	p.wantHeaders(t, "client", 0) // and is there from the start
	const client4, client6 = "192.0.2.7:54321", "[2001:db8::7]:54321"
	for _, w := range ways {
		for _, version := range []byte{1, 2} {
			for _, client := range []string{client4, client6} {
				got := p.behind(t, w, balancer, header(t, version, client)).remoteOf(t)
				if got != client {
					t.Errorf("%s, version %d: the log has %q, want %q", w, version, got, client)
				}
			}
		}
	}
	p.wantHeaders(t, "client", 4*len(ways))

	got := p.behind(t, http1, balancer, localHeader(t)).remoteOf(t)
	if !strings.HasPrefix(got, balancer+":") {
		t.Errorf("of the load balancer itself the log has %q", got)
	}
	p.wantHeaders(t, "local", 1)

	got = p.behind(t, http1, outsider, "").remoteOf(t)
	if !strings.HasPrefix(got, outsider+":") {
		t.Errorf("of a client that connects by itself the log has %q", got)
	}
	check := p.behind(t, http1, balancer, localHeader(t))
	status, _ := p.get(t, check, "https://"+p.Listen+"/healthz/ready")
	if status != http.StatusOK {
		t.Errorf("a health check over HTTPS: %d", status)
	}
}

// Nobody but the load balancer can state an address, and the load balancer must.
func TestPROXYProtocolForged(t *testing.T) {
	t.Parallel()
	p := newProxy(t, balanced)
	there := *p
	there.Listen = p.More[0] // a port that trusts nobody
	good, forged := header(t, 2, "192.0.2.7:54321"), header(t, 1, "198.51.100.66:6666")
	forged2 := header(t, 2, "198.51.100.66:6666")
	wrong, oversized := "PROXY TCP4 here there 1 2\r\n", "PROXY TCP4 "+strings.Repeat("1", 500)
	for _, test := range []struct {
		name    string
		client  *client
		outcome string
		remote  string // in the line about the first refusal
	}{
		{"a stranger", p.behind(t, http1, outsider, forged), "untrusted", outsider},
		{"a stranger, version 2", p.behind(t, http2, outsider, forged2), "untrusted", ""},
		{"behind the balancer", p.behind(t, http1, balancer, good+forged), "untrusted", ""},
		{"to a port that trusts nobody", there.behind(t, http1, balancer, good), "untrusted", ""},
		{"no header", p.behind(t, http1, balancer, ""), "missing", balancer},
		{"not a header", p.behind(t, http1, balancer, wrong), "invalid", balancer},
		{"oversized", p.behind(t, http1, balancer, oversized), "invalid", ""},
	} {
		before := p.metric(t, fmt.Sprintf("%s{outcome=%q}", headerCount, test.outcome))
		c := test.client
		reply, err := c.do(t.Context(), c.call(healthURI, encode(object{})))
		if err == nil {
			t.Errorf("%s: answered %d", test.name, reply.status)
		}
		after := p.metric(t, fmt.Sprintf("%s{outcome=%q}", headerCount, test.outcome))
		if after == before {
			t.Errorf("%s: %s connections are %s, as before", test.name, test.outcome, after)
		}
		if test.remote == "" {
			continue
		}
		line := p.log.wait(t, startLimit, p.Exited(), func(line string) bool {
			return strings.Contains(line, "refused by its PROXY protocol header") &&
				strings.Contains(line, `"reason":"`+test.outcome+`","remote":"`+test.remote+":")
		})
		if !strings.Contains(line, `"level":"warn"`) || !strings.Contains(line, `"advice":"`) {
			t.Errorf("%s: %s", test.name, line)
		}
	}
	believed := func(line string) bool { return strings.Contains(line, "198.51.100.66") }
	if line := p.log.find(believed); line != "" {
		t.Errorf("the forged address is in the log: %s", line)
	}
	p.behind(t, http1, balancer, good).remoteOf(t) // it serves on
}

// A load balancer that sends no header in time is cut off; others are served meanwhile.
func TestPROXYProtocolSlow(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		balanced(s)
		s.Server["read_header_timeout"] = "2s"
	})
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(balancer)}}
	start := time.Now()
	var slow []net.Conn
	for _, begins := range []string{"", "PROX", header(t, 2, "192.0.2.7:54321")[:20]} {
		conn, err := dialer.Dial("tcp", p.Listen)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = io.WriteString(conn, begins)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	p.behind(t, http1, balancer, header(t, 2, "192.0.2.7:54321")).remoteOf(t)
	for i, conn := range slow {
		err := conn.SetReadDeadline(start.Add(rawLimit))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(conn)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("connection %d stands after %v", i, rawLimit)
		}
	}
	if took := time.Since(start); took < 1900*time.Millisecond {
		t.Errorf("they were closed after %v", took)
	}
	p.wantHeaders(t, "slow", len(slow))
}

// What is trusted changes with a reload, for new connections.
func TestPROXYProtocolReload(t *testing.T) {
	t.Parallel()
	p := newProxy(t, byHand)
	const stated = "192.0.2.7:54321"
	kept := p.behind(t, http1, balancer, "")
	if got := kept.remoteOf(t); !strings.HasPrefix(got, balancer+":") {
		t.Fatalf("the log has %q", got)
	}
	p.configure(t, func(s *settings) {
		byHand(s)
		s.Server["proxy_protocol"] = object{"trusted": []string{balancer + "/32"}}
	})
	if r := p.reload(t); len(r.WaitsForRestart) > 0 {
		t.Errorf("waits for a restart: %q", r.WaitsForRestart)
	}
	if got := kept.remoteOf(t); !strings.HasPrefix(got, balancer+":") {
		t.Errorf("of a connection that stands the log has %q", got)
	}
	if got := p.behind(t, http1, balancer, header(t, 2, stated)).remoteOf(t); got != stated {
		t.Errorf("the log has %q", got)
	}
	p.configure(t, func(s *settings) {
		byHand(s)
		s.Server["proxy_protocol"] = object{"trusted": []string{"0.0.0.0/0"}}
	})
	p.reloadFails(t, "server.proxy_protocol.trusted[0]", "could forge it")
	if got := p.behind(t, http1, balancer, header(t, 1, stated)).remoteOf(t); got != stated {
		t.Errorf("after a reload that failed the log has %q", got)
	}
}
