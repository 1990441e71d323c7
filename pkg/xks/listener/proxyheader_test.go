package listener

// The PROXY protocol, over real connections from the addresses of the loopback: whose header is
// believed, whose is refused, and that nobody who keeps his header back holds up others.

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const (
	balancer = "127.0.0.2"
	other    = "127.0.0.3"
	payload  = "\x16\x03\x01 and so on"
)

// edge is a Listener that trusts balancer.
type edge struct {
	*Listener
	t    *testing.T
	logs *observer.ObservedLogs
}

func newEdge(t *testing.T, within time.Duration) *edge {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close() })
	core, logs := observer.New(zap.InfoLevel)
	e := &edge{Listener: New(tcp, 100, zap.New(core)), t: t, logs: logs}
	e.Trust([]netip.Prefix{netip.MustParsePrefix(balancer + "/32")}, within)
	return e
}

// dial connects from an address, and gives both ends.
func (e *edge) dial(from string) (*Conn, *net.TCPConn) {
	e.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	theirs, err := dialer.Dial("tcp", e.Addr().String())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { theirs.Close() })
	ours, err := e.Accept()
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { ours.Close() })
	return ours.(*Conn), theirs.(*net.TCPConn)
}

// wantCounts is for the outcomes that are not 0.
func (e *edge) wantCounts(want map[HeaderOutcome]int64) {
	e.t.Helper()
	got := e.Headers()
	if len(got) != len(HeaderOutcomes) {
		e.t.Errorf("not every outcome is there: %v", got)
	}
	maps.DeleteFunc(got, func(_ HeaderOutcome, n int64) bool { return n == 0 })
	if !maps.Equal(got, want) {
		e.t.Errorf("counted %v, want %v", got, want)
	}
}

// v2 is a header of version 2.
func v2(command, family byte, block []byte) string {
	fixed := []byte{command, family, byte(len(block) >> 8), byte(len(block))}
	return string(slices.Concat(proxyproto.SIGV2, fixed, block))
}

var (
	// As an AWS Network Load Balancer sends them: a checksum, then padding.
	tlvs  = append([]byte{3, 0, 4, 0xbc, 0xe5, 0x95, 0x1f, 4, 0, 0x4a}, make([]byte, 0x4a)...)
	tcp4  = slices.Concat([]byte{192, 0, 2, 7, 10, 0, 0, 1, 0xd4, 0x31, 0x01, 0xbb}, tlvs)
	tcp6  = slices.Concat(net.ParseIP("2001:db8::7"), net.IPv6loopback, tcp4[8:12])
	large = slices.Concat(tcp4, []byte{0xEE, 0x0B, 0xB8}, make([]byte, 3000))
)

const (
	v1Client = "PROXY TCP4 192.0.2.7 10.0.0.1 54321 443\r\n"
	client4  = "192.0.2.7:54321"
	client6  = "[2001:db8::7]:54321"
)

// headerCase is what a trusted source sends before the payload.
type headerCase struct {
	name, header string
	remote       string // "": the peer
	outcome      HeaderOutcome
}

var headerCases = []headerCase{
	{"v1, IPv4", v1Client, client4, HeaderClient},
	{"v1, IPv6", "PROXY TCP6 2001:db8::7 ::1 54321 443\r\n", client6, HeaderClient},
	{"v1, unknown", "PROXY UNKNOWN\r\n", "", HeaderLocal},
	{"v1, unknown with addresses", "PROXY UNKNOWN 192.0.2.7 10.0.0.1 1 2\r\n", "", HeaderLocal},
	{"v2, IPv4", v2(0x21, 0x11, tcp4), client4, HeaderClient},
	{"v2, IPv6", v2(0x21, 0x21, tcp6), client6, HeaderClient},
	{"v2, 3 KiB of TLVs", v2(0x21, 0x11, large), client4, HeaderClient},
	{"v2, local", v2(0x20, 0, nil), "", HeaderLocal},
	{"v2, local with the addresses of an NLB", v2(0x20, 0x11, tcp4), "", HeaderLocal},

	{"v1, oversized", "PROXY TCP4 192.0.2.7 " + strings.Repeat("1", 200), "", HeaderInvalid},
	{"v1, no such address", "PROXY TCP4 256.0.2.7 10.0.0.1 1 2\r\n", "", HeaderInvalid},
	{"v1, no such port", "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n", "", HeaderInvalid},
	{"v1, without its end", v1Client[:20], "", HeaderInvalid},
	{"v2, oversized", v2(0x21, 0x11, slices.Concat(tcp4, make([]byte, 5000))), "", HeaderInvalid},
	{"v2, too short for its addresses", v2(0x21, 0x11, tcp4[:8]), "", HeaderInvalid},
	{"v2, without its end", v2(0x21, 0x11, large)[:100], "", HeaderInvalid},
	{"v2, version 3", v2(0x31, 0x11, tcp4), "", HeaderInvalid},
	{"v2, no such command", v2(0x22, 0x11, tcp4), "", HeaderInvalid},
	{"v2, unspecified family", v2(0x21, 0, tcp4), "", HeaderInvalid},
	{"v2, no such family", v2(0x21, 0x13, tcp4), "", HeaderInvalid},
	{"v2, UDP", v2(0x21, 0x12, tcp4), "", HeaderInvalid},
	{"v2, Unix socket", v2(0x21, 0x31, make([]byte, 216)), "", HeaderInvalid},
	{"no header", "", "", HeaderMissing},
	{"half a signature", "PRO", "", HeaderMissing},
}

func TestPROXYHeader(t *testing.T) {
	for _, test := range headerCases {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge(t, time.Minute)
			ours, theirs := e.dial(balancer)
			send(theirs, test.header+payload)
			e.wantRemote(ours, cmp.Or(test.remote, theirs.LocalAddr().String()))
			e.wantRead(ours, test.outcome == HeaderClient || test.outcome == HeaderLocal)
			e.wantCounts(map[HeaderOutcome]int64{test.outcome: 1})
		})
	}
}

// send does so in the background, and ends the stream. Whether all of it arrives is for others.
func send(c *net.TCPConn, text string) {
	go func() {
		_, err := io.WriteString(c, text)
		if err == nil {
			_ = c.CloseWrite() // it was refused meanwhile
		}
	}()
}

func (e *edge) wantRemote(c *Conn, want string) {
	e.t.Helper()
	if got := c.RemoteAddr().String(); got != want {
		e.t.Errorf("the remote address is %s, want %s", got, want)
	}
}

// wantRead reads all: the payload, or nothing but a refusal that the log has as well.
func (e *edge) wantRead(c *Conn, arrives bool) {
	e.t.Helper()
	want := ""
	if arrives {
		want = payload
	}
	got, err := io.ReadAll(c)
	if string(got) != want || errors.Is(err, ErrHeaderRefused) == arrives || arrives && err != nil {
		e.t.Errorf("read %q, %v", got, err)
	}
	if lines := e.logs.Len(); lines > 0 == arrives {
		e.t.Errorf("%d lines in the log: %v", lines, e.logs.All())
	}
}

// A header of version 2 may come in any pieces.
func TestPROXYHeaderInPieces(t *testing.T) {
	e := newEdge(t, time.Minute)
	ours, theirs := e.dial(balancer)
	go func() {
		for _, one := range []byte(v2(0x21, 0x11, tcp4) + payload) {
			_, err := theirs.Write([]byte{one})
			if err != nil {
				return // the reader sees it
			}
		}
		theirs.CloseWrite()
	}()
	e.wantRemote(ours, client4)
	e.wantRead(ours, true)
	e.wantCounts(map[HeaderOutcome]int64{HeaderClient: 1})
}

// A header from another source is refused; without a header that source is served.
func TestPROXYHeaderOfAStranger(t *testing.T) {
	for _, header := range []string{
		"", v1Client, v2(0x21, 0x11, tcp4), v2(0x21, 0x21, tcp6), v2(0x20, 0, nil), v1Client[:10],
	} {
		t.Run(fmt.Sprintf("%q", header), func(t *testing.T) {
			e := newEdge(t, time.Minute)
			ours, theirs := e.dial(other)
			send(theirs, header+payload)
			e.wantRemote(ours, theirs.LocalAddr().String())
			e.wantRead(ours, header == "")
			counts := map[HeaderOutcome]int64{HeaderUntrusted: 1}
			if header == "" {
				counts = nil
			}
			e.wantCounts(counts)
		})
	}
}

// A load balancer passes on what its client sends: a second header is the client's forgery.
func TestPROXYHeaderForgedBehindTheBalancer(t *testing.T) {
	for _, forged := range []string{v2(0x21, 0x21, tcp6), v1Client, v2(0x20, 0, nil)} {
		e := newEdge(t, time.Minute)
		ours, theirs := e.dial(balancer)
		send(theirs, v1Client+forged+payload)
		e.wantRemote(ours, client4)
		e.wantRead(ours, false)
		e.wantCounts(map[HeaderOutcome]int64{HeaderClient: 1, HeaderUntrusted: 1})
	}
}

// Health checks of TCP connect and close, and are not refusals.
func TestPROXYHeaderConnectOnly(t *testing.T) {
	for _, from := range []string{balancer, other} {
		e := newEdge(t, time.Minute)
		ours, theirs := e.dial(from)
		send(theirs, "")
		e.wantRemote(ours, theirs.LocalAddr().String())
		_, err := ours.Read(make([]byte, 1))
		if !errors.Is(err, io.EOF) || e.logs.Len() > 0 {
			t.Errorf("%s: %v, %v", from, err, e.logs.All())
		}
		e.wantCounts(nil)
	}
}

// A source that keeps its header back is closed in time, and holds up nobody meanwhile.
func TestPROXYHeaderSlow(t *testing.T) {
	for _, begins := range []string{"", "PROX", v2(0x21, 0x11, tcp4)[:14]} {
		t.Run(fmt.Sprintf("%d bytes", len(begins)), func(t *testing.T) {
			e := newEdge(t, 300*time.Millisecond)
			slow, theirs := e.dial(balancer)
			_, err := io.WriteString(theirs, begins)
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			go func() {
				_, err := slow.Read(make([]byte, 10))
				failed <- err
			}()
			e.Trust([]netip.Prefix{netip.MustParsePrefix(balancer + "/32")}, time.Minute)
			ours, another := e.dial(balancer)
			_, err = io.WriteString(another, v1Client+payload)
			if err != nil {
				t.Fatal(err)
			}
			if got := ours.RemoteAddr().String(); got != client4 {
				t.Errorf("the other connection: %s", got)
			}
			err = <-failed
			if !errors.Is(err, ErrHeaderRefused) {
				t.Error(err)
			}
			e.wantCounts(map[HeaderOutcome]int64{HeaderSlow: 1, HeaderClient: 1})
		})
	}
}

// A connection that has to go while its header is awaited ends at once, and is not a refusal.
func TestPROXYHeaderEvicted(t *testing.T) {
	for _, begins := range []string{"", "PROX", v2(0x21, 0x11, tcp4)[:30]} {
		e := newEdge(t, time.Minute)
		ours, theirs := e.dial(balancer)
		_, err := io.WriteString(theirs, begins)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan net.Addr, 1)
		go func() { done <- ours.RemoteAddr() }()
		ours.Close()
		if got := (<-done).String(); got != theirs.LocalAddr().String() {
			t.Errorf("the remote address is %s", got)
		}
		_, err = ours.Read(make([]byte, 1))
		if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		e.wantCounts(nil)
	}
}

// No deadline of the header is left for what comes after it.
func TestPROXYHeaderLeavesNoDeadline(t *testing.T) {
	e := newEdge(t, 200*time.Millisecond)
	ours, theirs := e.dial(balancer)
	_, err := io.WriteString(theirs, v1Client)
	if err != nil {
		t.Fatal(err)
	}
	if got := ours.RemoteAddr().String(); got != client4 {
		t.Fatal(got)
	}
	<-time.After(time.Until(ours.sender.until) + 50*time.Millisecond) // the deadline has passed
	go io.WriteString(theirs, payload)
	got := make([]byte, len(payload))
	_, err = io.ReadFull(ours, got)
	if err != nil || string(got) != payload {
		t.Errorf("%q, %v", got, err)
	}
}

// What a port trusts changes while it runs, and belongs to that port.
func TestPROXYTrustChanges(t *testing.T) {
	e := newEdge(t, time.Minute)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	beside := &edge{Listener: e.WithSharedLimits(other), t: t}
	for _, test := range []struct {
		name    string
		port    *edge
		trusted []string
		want    error
	}{
		{"trusted", e, []string{"10.0.0.0/8", balancer + "/32"}, nil},
		{"another port", beside, nil, ErrHeaderRefused},
		{"by its network", beside, []string{"127.0.0.0/8"}, nil},
		{"not any more", e, nil, ErrHeaderRefused},
		{"its neighbour", e, []string{"127.0.0.3/32"}, ErrHeaderRefused},
	} {
		if test.trusted != nil || test.port == e {
			var sources []netip.Prefix
			for _, text := range test.trusted {
				sources = append(sources, netip.MustParsePrefix(text))
			}
			test.port.Trust(sources, time.Minute)
		}
		ours, theirs := test.port.dial(balancer)
		go io.WriteString(theirs, v1Client+payload)
		_, err := ours.Read(make([]byte, 10))
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// Refusals can be caused by anyone: the log has one line for each reason.
func TestPROXYRefusalsAreFewLines(t *testing.T) {
	e := newEdge(t, time.Minute)
	for range 20 {
		ours, theirs := e.dial(other)
		go io.WriteString(theirs, v1Client)
		_, err := ours.Read(make([]byte, 10))
		if !errors.Is(err, ErrHeaderRefused) {
			t.Fatal(err)
		}
		ours.Close()
	}
	e.wantCounts(map[HeaderOutcome]int64{HeaderUntrusted: 20})
	if e.logs.Len() != 1 {
		t.Errorf("%d lines", e.logs.Len())
	}
	line := e.logs.All()[0].ContextMap()
	if line["reason"] != "untrusted" || !strings.HasPrefix(line["remote"].(string), other+":") {
		t.Errorf("the line is %v", line)
	}
}
