package server

// Handshakes that fail over real connections: each is counted under its reason, once, and has one line
// in the log if an operator can do something about it.

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/testkit"
)

// handshakeCase is a client that does not get in.
type handshakeCase struct {
	name    string
	port    string // "": that without client certificates
	connect func(t *testing.T, r *tlsRig, address string)
	want    certs.HandshakeReason
}

// dials shakes hands with a client's settings, and wants a failure. Over TLS 1.3 the client may learn of
// it only when it reads.
func dials(edit func(*tls.Config)) func(*testing.T, *tlsRig, string) {
	return func(t *testing.T, r *tlsRig, address string) {
		config := r.clientTLS(0)
		config.MinVersion, config.MaxVersion = tls.VersionTLS10, 0
		edit(config)
		c, err := tls.Dial("tcp", address, config)
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Read(make([]byte, 1))
			_ = c.Close()
		}
		if err == nil {
			t.Error("the client gets in")
		}
	}
}

// sends writes bytes that are no handshake and waits for the end.
func sends(text string) func(*testing.T, *tlsRig, string) {
	return func(t *testing.T, _ *tlsRig, address string) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, err = c.Write([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if text == "" {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Read(make([]byte, 100))
	}
}

var handshakeCases = []handshakeCase{
	{"a CA that the client does not trust, TLS 1.3", "", dials(func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }), certs.FailedCertificate},
	{"a CA that the client does not trust, TLS 1.2", "", dials(func(c *tls.Config) { c.RootCAs, c.MaxVersion = x509.NewCertPool(), tls.VersionTLS12 }), certs.FailedCertificate},
	{"another name", "", dials(func(c *tls.Config) { c.ServerName = "unknown.example.net" }), certs.FailedCertificate},
	{"a certificate that ended for the client", "", dials(func(c *tls.Config) { c.Time = func() time.Time { return time.Now().Add(1000 * certs.OneDay) } }), certs.FailedCertificate},
	{"TLS 1.1", "", dials(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }), certs.FailedVersion},
	{"CBC only", "", dials(func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	}), certs.FailedCipher},
	{"RSA only, of an ECDSA certificate", "", dials(func(c *tls.Config) {
		c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}), certs.FailedCipher},
	{"another protocol", "", dials(func(c *tls.Config) { c.NextProtos = []string{"imap"} }), certs.FailedProtocol},
	{"GET over plain HTTP", "", sends("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), certs.FailedPlainHTTP},
	{"DELETE over plain HTTP", "", sends("DELETE / HTTP/1.1\r\nHost: x\r\n\r\n"), certs.FailedPlainHTTP},
	{"SSH", "", sends("SSH-2.0-OpenSSH_9.2\r\n"), certs.FailedNotTLS},
	{"nothing", "", sends(""), certs.FailedClosed},
	{"no client certificate", mutualPort, dials(func(*tls.Config) {}), certs.FailedClient},
}

func TestHandshakeFailures(t *testing.T) {
	rig := newTLSRig(t).start()
	count := func() map[certs.HandshakeReason]int64 {
		counts := map[certs.HandshakeReason]int64{}
		for _, reason := range certs.HandshakeReasons {
			counts[reason] = rig.holder.Handshakes.Failed[reason].Load()
		}
		return counts
	}
	for _, c := range handshakeCases {
		t.Run(c.name, func(t *testing.T) {
			before := count()
			rig.log.TakeAll()
			port := plainPort
			if c.port != "" {
				port = c.port
			}
			c.connect(t, rig, rig.address(port))
			testkit.Eventually(t, "a failure is counted as "+string(c.want), func() bool { return count()[c.want] > before[c.want] })
			before[c.want]++
			if got := count(); fmt.Sprint(got) != fmt.Sprint(before) {
				t.Errorf("got %v, want %v", got, before)
			}
			says, told := certs.HandshakeLine[c.want]
			if c.want == certs.FailedClient {
				says, told = "client certificate refused", true
			}
			if !told {
				if lines := rig.log.TakeAll(); len(lines) != 0 {
					t.Errorf("lines of the log: %v", lines)
				}
				return
			}
			testkit.Eventually(t, "a line of the log", func() bool { return rig.log.Len() > 0 })
			lines := rig.log.TakeAll()
			fields := lines[0].ContextMap()
			remote, ok := fields["remote"].(string)
			if len(lines) != 1 || lines[0].Message != says || !ok || !strings.HasPrefix(remote, "127.") || fields["detail"] == "" {
				t.Errorf("lines of the log: %v", lines)
			}
		})
	}
	if _, err := rig.get(plainPort, rig.clientTLS(tls.VersionTLS13)); err != nil {
		t.Errorf("a good client afterwards: %v", err)
	}
}
