package xks

// PROXY headers as anything a trusted source might send, and what a header costs.

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
)

// FuzzPROXYHeader: whatever a trusted source sends, the address is that of a good header or the
// peer's own, what follows the header is lost by not a byte, and a header is of bounded length.
func FuzzPROXYHeader(f *testing.F) {
	for _, seed := range headerCases {
		f.Add([]byte(seed.header + payload))
		f.Add([]byte(seed.header))
	}
	peer := &net.TCPAddr{IP: net.ParseIP(balancer), Port: 1}
	f.Fuzz(func(t *testing.T, data []byte) {
		tally := newHeaderTally(zap.NewNop())
		source := bytes.NewReader(data)
		reader := bufio.NewReaderSize(source, headerBuffer)
		remote, err := tally.read(reader, peer)
		if remote == nil || remote.String() == "" {
			t.Fatal("no address")
		}
		if err != nil {
			if remote != net.Addr(peer) {
				t.Fatalf("refused, but of %s", remote)
			}
			return
		}
		if _, ok := remote.(*net.TCPAddr); !ok {
			t.Fatalf("%T", remote)
		}
		rest, err := io.ReadAll(reader)
		if err != nil {
			t.Fatal(err)
		}
		header := data[:len(data)-len(rest)]
		if !bytes.HasSuffix(data, rest) || !isHeader(header) || len(header) > 16+4096 {
			t.Fatalf("the header of %q is %q", data, header)
		}
		clients := tally.counts[HeaderClient].all.Load()
		locals := tally.counts[HeaderLocal].all.Load()
		if clients+locals != 1 || locals == 1 && remote != net.Addr(peer) {
			t.Fatalf("%d of a client and %d without, remote %s", clients, locals, remote)
		}
	})
}

// BenchmarkPROXYHeader is the cost of a header, beside a connection's own.
func BenchmarkPROXYHeader(b *testing.B) {
	peer := &net.TCPAddr{IP: net.ParseIP(balancer), Port: 1}
	for name, header := range map[string]string{"v1": v1Client, "v2": v2(0x21, 0x11, tcp4)} {
		b.Run(name, func(b *testing.B) {
			tally := newHeaderTally(zap.NewNop())
			b.ReportAllocs()
			for b.Loop() {
				reader := bufio.NewReaderSize(strings.NewReader(header), headerBuffer)
				_, err := tally.read(reader, peer)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnection is a connection, its handshake and one request, with a header and without.
func BenchmarkConnection(b *testing.B) {
	for _, header := range []string{"", v2(0x21, 0x11, tcp4)} {
		b.Run(fmt.Sprintf("header of %d bytes", len(header)), func(b *testing.B) {
			r := newRig(b, func(c *Config, _ *hsm.GroupConfig) { c.Log = zap.NewNop() })
			s := r.listen("HTTP/1.1")
			if header != "" {
				s.listener.Trust([]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, time.Minute)
			}
			address := s.Server.Listener.Addr().String()
			for b.Loop() {
				raw, err := net.Dial("tcp", address)
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.WriteString(raw, header)
				if err != nil {
					b.Fatal(err)
				}
				c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
				request := s.raw(prefixURI+"/health", metadataOnly("KmsHealthCheck"))
				_, err = io.WriteString(c, request)
				if err != nil {
					b.Fatal(err)
				}
				if got := s.read(bufio.NewReader(c)); got.status != http.StatusOK {
					b.Fatal(got)
				}
				c.Close()
			}
		})
	}
}
