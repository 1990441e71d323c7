package xks

// What a connection costs, with its handshake and one request.

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm/group"
)

// BenchmarkConnection is a connection, its handshake and one request, with a header and without.
func BenchmarkConnection(b *testing.B) {
	for _, header := range []string{"", "PROXY TCP4 203.0.113.7 127.0.0.1 40000 443\r\n"} {
		b.Run(fmt.Sprintf("header of %d bytes", len(header)), func(b *testing.B) {
			r := newRig(b, func(c *Config, _ *group.Config) { c.Log = zap.NewNop() })
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
