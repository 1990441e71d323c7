package listener

// The PROXY protocol: a load balancer opens connections of its own, and states in a header before
// the TLS handshake for which client (haproxy.org, proxy-protocol.txt, versions 1 and 2). The
// configuration names the sources that may do so. A header from any other source is refused.

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// HeaderOutcome is the outcome of a connection with regard to the PROXY protocol.
type HeaderOutcome string

// The outcomes. After the first two the connection is served, after the others it is closed.
const (
	HeaderClient    HeaderOutcome = "client"    // the header has the client's address
	HeaderLocal     HeaderOutcome = "local"     // the load balancer connects for itself
	HeaderMissing   HeaderOutcome = "missing"   // a trusted source sent something else
	HeaderInvalid   HeaderOutcome = "invalid"   // a trusted source sent a header that is wrong
	HeaderSlow      HeaderOutcome = "slow"      // a trusted source did not send the header in time
	HeaderUntrusted HeaderOutcome = "untrusted" // a header came from a source that is not trusted
)

// HeaderOutcomes are all outcomes.
var HeaderOutcomes = []HeaderOutcome{
	HeaderClient, HeaderLocal, HeaderMissing, HeaderInvalid, HeaderSlow, HeaderUntrusted,
}

// headerAdvice is what an operator can do about refused connections, for the log.
var headerAdvice = map[HeaderOutcome]string{
	HeaderMissing: "this source is trusted and must send the header: " +
		"enable the PROXY protocol on the load balancer, for its health checks too",
	HeaderInvalid: "the load balancer must send a header of version 1 or 2 for TCP: " +
		"version 1 in one piece, version 2 of at most 4 KiB",
	HeaderSlow: "the header must come within server.read_header_timeout",
	HeaderUntrusted: "if this is a load balancer, add its address to proxy_protocol.trusted; " +
		"otherwise somebody is trying to forge an address",
}

// headerBuffer holds the longest header of version 1 (107 bytes), which must come in one piece, and
// one of version 2 as load balancers send it. A longer one needs several reads.
const headerBuffer = 256

// ErrHeaderRefused is the error of connections that are closed because of their PROXY header.
var ErrHeaderRefused = errors.New("refused by the PROXY protocol")

var (
	errForged = errors.New("a header came from a source that is not trusted")
	errNotTCP = errors.New("the header is not about a TCP connection")
)

// headerStats counts the outcomes and logs refusals: one line in ten seconds for each outcome.
type headerStats struct {
	log    *zap.Logger
	counts map[HeaderOutcome]*headerCount // never changed
}

type headerCount struct {
	all     atomic.Int64
	warning rate.Sometimes
}

func newHeaderStats(log *zap.Logger) *headerStats {
	t := &headerStats{log: log, counts: map[HeaderOutcome]*headerCount{}}
	for _, outcome := range HeaderOutcomes {
		t.counts[outcome] = &headerCount{
			warning: rate.Sometimes{First: 1, Interval: warningInterval},
		}
	}
	return t
}

// refuse counts and logs a refusal and returns the error that ends the connection. from is the
// client, or the trusted source if there is no valid header, and never what a refused header says.
func (t *headerStats) refuse(outcome HeaderOutcome, from net.Addr, detail error) error {
	count := t.counts[outcome]
	all := count.all.Add(1)
	count.warning.Do(func() {
		t.log.Warn("connection refused by its PROXY protocol header",
			zap.String("reason", string(outcome)), zap.Stringer("remote", from),
			zap.NamedError("detail", detail), zap.String("advice", headerAdvice[outcome]),
			zap.Int64("refused_since_start", all))
	})
	return fmt.Errorf("%w: %s: %w", ErrHeaderRefused, outcome, detail)
}

// Headers returns the number of connections since the start by outcome, without those that ended
// before the first byte.
func (l *connections) Headers() map[HeaderOutcome]int64 {
	counts := map[HeaderOutcome]int64{}
	for outcome, count := range l.headers.counts {
		counts[outcome] = count.all.Load()
	}
	return counts
}

// trust is the sources that must send a header.
type trust struct {
	sources []netip.Prefix
	within  time.Duration // from accept on
}

// Trust requires connections from these sources to begin with a PROXY header, which must arrive in
// the given time after accept. Connections from other sources must not have one. It takes effect
// with the next connection, on this port only. At first no source is trusted.
func (l *Listener) Trust(sources []netip.Prefix, within time.Duration) {
	l.trust.Store(&trust{sources, within})
}

// sender returns the state of a connection from a trusted source, and nil for another peer.
func (l *Listener) sender(peer net.Addr, accepted time.Time) *headerSender {
	trusted := l.trust.Load()
	tcp, ok := peer.(*net.TCPAddr)
	if trusted == nil || !ok {
		return nil
	}
	address := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, source := range trusted.sources {
		if source.Contains(address) {
			return &headerSender{until: accepted.Add(trusted.within), remote: peer}
		}
	}
	return nil
}

// headerSender is a trusted source at the other end of a connection, and the content of its header.
type headerSender struct {
	until time.Time
	once  sync.Once

	remote net.Addr // the client; the sender itself if it connects for itself, or if err is not nil
	rest   []byte   // came after the header; for Read only
	err    error    // instead of whatever else would be read
}

// read waits for the header on the first call, and keeps what it reads beyond it. It leaves no read
// deadline: net/http asks for the remote address before it sets one.
func (s *headerSender) read(c *Conn) {
	s.once.Do(func() {
		err := c.Conn.SetReadDeadline(s.until)
		if err != nil {
			s.err = err
			return
		}
		reader := bufio.NewReaderSize(c.Conn, headerBuffer)
		s.remote, s.err = c.shared.headers.read(reader, s.remote)
		if s.err != nil {
			return
		}
		s.rest, err = reader.Peek(reader.Buffered())
		if err == nil {
			err = c.Conn.SetReadDeadline(time.Time{})
		}
		s.err = err
	})
}

// read returns the client's address, or peer's if the load balancer connects for itself.
func (t *headerStats) read(reader *bufio.Reader, peer net.Addr) (net.Addr, error) {
	_, err := reader.Peek(1)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return peer, t.refuse(HeaderSlow, peer, err)
	case err != nil:
		return peer, err // a health check that only connects, or the connection has made room
	}
	header, err := proxyproto.Read(reader)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return peer, t.refuse(HeaderSlow, peer, err)
	case errors.Is(err, net.ErrClosed):
		return peer, err // it has made room
	case errors.Is(err, proxyproto.ErrNoProxyProtocol):
		return peer, t.refuse(HeaderMissing, peer, err)
	case err != nil:
		return peer, t.refuse(HeaderInvalid, peer, err)
	case header.Command.IsLocal():
		t.counts[HeaderLocal].all.Add(1)
		return peer, nil
	}
	client, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok {
		return peer, t.refuse(HeaderInvalid, peer, errNotTCP)
	}
	t.counts[HeaderClient].all.Add(1)
	return client, nil
}

// take copies what arrived together with the header.
func (s *headerSender) take(b []byte) int {
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	if len(s.rest) == 0 {
		s.rest = nil // and with it the buffer
	}
	return n
}

// RemoteAddr implements net.Conn. It returns the client's address and waits for the header, so the
// accept loop must not call it. net/http calls it in the goroutine of the connection.
func (c *Conn) RemoteAddr() net.Addr {
	if c.sender == nil {
		return c.Conn.RemoteAddr()
	}
	c.sender.read(c)
	return c.sender.remote
}

// receive reads from the connection, past the header of a trusted source. What follows is never
// another header: a load balancer passes on what its clients send, including forged headers.
func (c *Conn) receive(b []byte) (int, error) {
	n, err := 0, error(nil)
	if c.sender != nil {
		c.sender.read(c)
		if c.sender.err != nil {
			return 0, c.sender.err
		}
		n = c.sender.take(b)
	}
	if n == 0 {
		n, err = c.Conn.Read(b)
	}
	if !c.begun && n > 0 {
		c.begun = true
		if isHeader(b[:n]) {
			return 0, c.shared.headers.refuse(HeaderUntrusted, c.RemoteAddr(), errForged)
		}
	}
	return n, err
}

// isHeader reports whether the first bytes of a connection begin a PROXY header. A TLS handshake
// begins with 0x16.
func isHeader(b []byte) bool {
	const enough = 5 // bytes; smaller pieces just fail the handshake
	begins := b[:min(len(b), len(proxyproto.SIGV2))]
	return len(b) >= enough &&
		(bytes.HasPrefix(b, proxyproto.SIGV1) || bytes.HasPrefix(proxyproto.SIGV2, begins))
}
