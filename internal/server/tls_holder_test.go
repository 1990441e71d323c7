package server

// The running proxy's TLS: certificates replaced under load, cipher suites (requirement U8), several
// ports with one limit, what a reload refuses, and what is said of time that runs out (C1).

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/metrics"
	"xks-proxy/internal/testkit"
)

// No handshake fails while certificates and CA bundles are replaced a hundred times, and
// connections that stand live on.
func TestCertificatesAreReplacedUnderLoad(t *testing.T) {
	const swaps, clients = 100, 4
	r := newTLSRig(t).start()
	shows := r.clientCA.ForClient(t, kmsSubject, nil)
	stands, done := r.client(mutualPort, presents(r.clientTLS(tls.VersionTLS13), shows))
	defer done()
	_, err := getLive(stands)
	if err != nil {
		t.Fatal(err)
	}
	var handshakes, failed atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range clients {
		running.Go(func() {
			config, port := r.clientTLS(versions[i%2]), plainPort
			if i >= clients/2 {
				config, port = presents(config, shows), mutualPort
			}
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := r.get(port, config)
				handshakes.Add(1)
				if err != nil {
					failed.Add(1)
					t.Errorf("a handshake failed: %v", err)
					return
				}
			}
		})
	}
	for i := range swaps {
		before := handshakes.Load()
		testkit.Eventually(t, "handshakes go on", func() bool { return handshakes.Load() > before || failed.Load() > 0 })
		r.pair("server", r.serverCA.ForServer(t, nil, "xks.example.com"))
		if i%2 == 0 {
			r.bundle("clients.pem", r.clientCA, testkit.NewCA(t, "a further CA"))
		} else {
			r.bundle("clients.pem", testkit.NewCA(t, "a further CA"), r.clientCA)
		}
		r.Reload()
	}
	close(stop)
	running.Wait()
	state, err := getLive(stands)
	if err != nil {
		t.Fatal(err)
	}
	newest := r.holder.Current.Load().Standard().Leaf
	if state.PeerCertificates[0].Equal(newest) {
		t.Error("the connection that stood is a new one")
	}
	state, err = r.get(plainPort, r.clientTLS(tls.VersionTLS13))
	if err != nil || !state.PeerCertificates[0].Equal(newest) {
		t.Errorf("a new connection has another certificate than the newest: %v", err)
	}
	t.Logf("%d handshakes during %d replacements, %d failed", handshakes.Load(), swaps, failed.Load())
}

// Requirement U8, on TLS 1.2: every cipher suite that crypto/tls knows is tried alone, with a
// certificate of either kind.
func TestCipherSuites(t *testing.T) {
	r := newTLSRig(t)
	r.config.Server.TLS.More = []config.CertificateFiles{r.pair("rsa", r.serverCA.ForServer(t, testkit.NewRSA(t, 2048), "xks.example.com"))}
	r.start()
	offered := map[uint16]bool{
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384: true, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: true,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: true, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: true,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: true, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256: true,
	}
	tried := 0
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if suite.SupportedVersions[0] == tls.VersionTLS13 {
			continue // its client offers all of them, always; test/tls_test.go has curl choose
		}
		tried++
		config := r.clientTLS(tls.VersionTLS12)
		config.CipherSuites = []uint16{suite.ID}
		_, err := r.get(plainPort, config)
		if offered[suite.ID] != (err == nil) || err != nil && !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("%s: %v", suite.Name, err)
		}
	}
	if tried < 20 {
		t.Errorf("only %d suites were tried", tried)
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		_, err := r.get(plainPort, r.clientTLS(version))
		if err == nil {
			t.Errorf("%s is served", tls.VersionName(version))
		}
	}
	state, err := r.get(plainPort, r.clientTLS(tls.VersionTLS13))
	if err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("TLS 1.3: %v", err)
	}
}

// HTTP/2 is offered on every port, or on none (requirement U7).
func TestProtocolsOnEveryPort(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		r := newTLSRig(t)
		r.config.Server.HTTP2 = http2
		r.start()
		for _, port := range []string{plainPort, mutualPort} {
			config := presents(r.clientTLS(tls.VersionTLS13), r.clientCA.ForClient(t, kmsSubject, nil))
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: dialTo(r.address(port))}
			response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://xks.example.com" + livePath)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			transport.CloseIdleConnections()
			if (response.ProtoMajor == 2) != http2 {
				t.Errorf("HTTP/2 %t: %s on %s", http2, response.Proto, port)
			}
		}
	}
}

// server.max_connections is one limit over all ports.
func TestPortsShareTheLimit(t *testing.T) {
	r := newTLSRig(t)
	r.config.Server.MaxConnections = 3
	r.start()
	dial := func(port string, config *tls.Config) *tls.Conn {
		conn, err := tls.Dial("tcp", r.address(port), config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	plain, mutual := r.clientTLS(tls.VersionTLS13), presents(r.clientTLS(tls.VersionTLS13), r.clientCA.ForClient(t, kmsSubject, nil))
	first := dial(plainPort, plain)
	dial(mutualPort, mutual)
	dial(plainPort, plain)
	if n := r.servers.listeners.api.Open(); n != 3 {
		t.Fatalf("%d connections are counted, want 3", n)
	}
	dial(mutualPort, mutual) // takes the place of the oldest stranger, on the other port
	_, err := first.Read(make([]byte, 1))
	if err == nil {
		t.Error("the oldest connection lives on")
	}
	if n := r.servers.listeners.api.Refused(); n != 1 {
		t.Errorf("%d connections were closed for others, want 1", n)
	}
}

// endingAt signs a server's certificate that ends in a time.
func (r *tlsRig) endingAt(name string, end time.Time) *testkit.Issued {
	return testkit.Issue(r.t, r.serverCA, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: end.Add(-365 * certs.OneDay), NotAfter: end,
	})
}

// An expired certificate does not replace one that works; one that is in use already keeps no
// reload from happening.
func TestReloadRefusesExpiredCertificates(t *testing.T) {
	r := newTLSRig(t)
	r.config.KeyStores = []config.KeyStore{{Name: "finance", Certificates: []config.CertificateFiles{r.pair("finance", r.endingAt("finance.example.com", time.Now().Add(-time.Hour)))}}}
	r.start() // at start there is nothing better
	err := r.holder.Refuses(r.prepare())
	if err != nil {
		t.Errorf("the expired certificate is in use already: %v", err)
	}
	r.pair("server", r.endingAt("xks.example.com", time.Now().Add(-time.Hour)))
	err = r.holder.Refuses(r.prepare())
	if err == nil || !strings.Contains(err.Error(), "server.tls.certificate: ") || !strings.Contains(err.Error(), "server.crt expired on ") {
		t.Errorf("a newly expired certificate: %v", err)
	}
	r.pair("server", testkit.Issue(t, r.serverCA, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "xks.example.com"}, DNSNames: []string{"xks.example.com"}, NotBefore: time.Now().Add(time.Hour),
	}))
	err = r.holder.Refuses(r.prepare())
	if err == nil || !strings.Contains(err.Error(), "is not valid before ") {
		t.Errorf("a certificate that is not valid yet: %v", err)
	}
	r.pair("server", r.serverCA.ForServer(t, nil, "xks.example.com"))
	err = r.holder.Refuses(r.prepare())
	if err != nil {
		t.Errorf("a good one: %v", err)
	}
}

func TestEndsOfCertificatesAreTold(t *testing.T) {
	r := newTLSRig(t)
	now := time.Now()
	r.config.Server.TLS.More = []config.CertificateFiles{
		r.pair("soon", r.endingAt("soon.example.com", now.Add(29*24*time.Hour))),
		r.pair("now", r.endingAt("now.example.com", now.Add(9*24*time.Hour+12*time.Hour))),
		r.pair("ended", r.endingAt("ended.example.com", now.Add(-time.Hour))),
	}
	r.config.KeyStores = []config.KeyStore{{Name: "finance", Certificates: []config.CertificateFiles{r.pair("finance", r.endingAt("finance.example.com", now.Add(32*24*time.Hour-time.Hour)))}}}
	m := r.prepare()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		begun := time.Now()
		clock := func() time.Time { return now.Add(time.Since(begun)) }
		holder := certs.NewHolder(true, zap.New(core), noStrangers, clock)
		holder.Use(m)
		go holder.WatchValidity(t.Context())
		synctest.Wait()
		want := []struct {
			level zapcore.Level
			says  string
		}{{zap.WarnLevel, "the certificate expires in 28 days"}, {zap.ErrorLevel, "the certificate expires in 9 days"}, {zap.ErrorLevel, "the certificate expired on "}}
		check := func(lines []observer.LoggedEntry) {
			t.Helper()
			if len(lines) != len(want) {
				t.Fatalf("%d lines: %v", len(lines), lines)
			}
			for i, line := range lines {
				if line.Level != want[i].level || !strings.HasPrefix(line.Message, want[i].says) {
					t.Errorf("line %d: %v %q", i, line.Level, line.Message)
				}
			}
		}
		check(logs.TakeAll())
		time.Sleep(certs.ValidityInterval + time.Second)
		synctest.Wait()
		want[0].says, want[1].says = "the certificate expires in 27 days", "the certificate expires in 8 days"
		check(logs.TakeAll())
		holder.Use(m) // after a reload at once, not a day later
		synctest.Wait()
		check(logs.TakeAll())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		lines := logs.TakeAll()
		if last := lines[len(lines)-1]; len(lines) != 4 || last.ContextMap()["key_store"] != "finance" {
			t.Errorf("a key store's: %v", lines)
		}
	})
}

func TestCertificateMetrics(t *testing.T) {
	r := newTLSRig(t)
	end := time.Now().Add(20 * 24 * time.Hour).Truncate(time.Second)
	r.config.Server.TLS.More = []config.CertificateFiles{ // one name twice is one series: the earlier end
		r.pair("twin-1", r.endingAt("twin.example.com", end.Add(time.Hour))), r.pair("twin-2", r.endingAt("twin.example.com", end)),
	}
	r.config.KeyStores = []config.KeyStore{{Name: "finance", Certificates: []config.CertificateFiles{r.pair("finance", r.endingAt("finance.example.com", end.Add(-30*24*time.Hour)))}}}
	r.start()
	r.isRefused(mutualPort, r.clientTLS(tls.VersionTLS13), certs.RefusedAbsent)
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewTLSCollector(r.holder))
	text := testkit.Scrape(t, registry)
	for _, want := range []string{
		`xks_proxy_certificate_expiry_timestamp_seconds{key_store="",name="xks.example.com",use="server"} `,
		`xks_proxy_certificate_expiry_timestamp_seconds{key_store="finance",name="finance.example.com",use="server"} `,
		`xks_proxy_certificate_not_before_timestamp_seconds{key_store="finance",name="finance.example.com",use="server"} `,
		`xks_proxy_certificate_expiry_timestamp_seconds{key_store="",name="client CA",use="client_ca"} `,
		`xks_proxy_tls_handshake_failures_total{reason="client_certificate"} 1`,
		`xks_proxy_tls_handshake_failures_total{reason="tls_version"} 0`,
		`xks_proxy_client_certificate_refusals_total{reason="absent"} 1`,
		`xks_proxy_client_certificate_refusals_total{reason="unknown_authority"} 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	status := r.holder.Certificates()
	if len(status) != 5 || status[4].Use != certs.UseClientCA || status[0].Problem != "" || !strings.HasPrefix(status[2].Problem, "expires in 19 days") || !strings.HasPrefix(status[3].Problem, "expired") || status[3].KeyStore != "finance" {
		t.Errorf("%+v", status)
	}
}
