package listener

// PROXY headers as anything a trusted source might send, and what a header costs.

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/zap"
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
		stats := newHeaderStats(zap.NewNop())
		source := bytes.NewReader(data)
		reader := bufio.NewReaderSize(source, headerBuffer)
		remote, err := stats.read(reader, peer)
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
		clients := stats.counts[HeaderClient].all.Load()
		locals := stats.counts[HeaderLocal].all.Load()
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
			stats := newHeaderStats(zap.NewNop())
			b.ReportAllocs()
			for b.Loop() {
				reader := bufio.NewReaderSize(strings.NewReader(header), headerBuffer)
				_, err := stats.read(reader, peer)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
