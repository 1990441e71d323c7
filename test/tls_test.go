package test

// TLS of the real program: certificates chosen by name, a port that asks for client certificates
// beside one that does not, cipher suites of TLS 1.3 (requirements C1, A7, U8, H5).

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
	"xks-proxy/internal/testkit"
)

// testCA signs what a test needs.
type testCA struct{ *testkit.Issued }

func newTestCA(t testing.TB, name string) testCA {
	t.Helper()
	return testCA{testkit.NewCA(t, name)}
}

// pem is the certificate of the CA itself.
func (ca testCA) pem() string { return testkit.PEM("CERTIFICATE", ca.Raw) }

// pair writes base.crt and base.key for a server, and gives them as a configuration has them.
func (ca testCA) pair(t testing.TB, base, name string) object {
	t.Helper()
	return ca.write(t, base, &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
}

// client writes base.crt and base.key for a client.
func (ca testCA) client(t testing.TB, base, subject string) object {
	t.Helper()
	return ca.write(t, base, &x509.Certificate{Subject: pkix.Name{CommonName: subject}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (ca testCA) write(t testing.TB, base string, template *x509.Certificate) object {
	t.Helper()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	leaf := testkit.Issue(t, ca.Issued, nil, template)
	writeFile(t, base+".crt", leaf.PEM()+ca.pem())
	writeFile(t, base+".key", leaf.KeyPEM(t))
	return object{"certificate": base + ".crt", "key": base + ".key"}
}

// served is the first certificate that a client gets who asks for a name.
func (p *proxy) served(t testing.TB, name string, version uint16) *x509.Certificate {
	t.Helper()
	dialer := &net.Dialer{Timeout: rawLimit}
	c, err := tls.DialWithDialer(dialer, "tcp", p.Listen, &tls.Config{ServerName: name, MinVersion: version, MaxVersion: version, InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// Each key store has its host name and its certificate. A key store's certificate that has expired
// is told of, and keeps nobody else from being served.
func TestCertificatesByName(t *testing.T) {
	t.Parallel()
	ca := newTestCA(t, "tenants' CA")
	p := newProxy(t, func(s *settings) {
		dir := t.TempDir()
		writeFile(t, dir+"/ca.crt", ca.pem())
		s.Server["tls"].(object)["more"] = []object{ca.pair(t, dir+"/wild", "*.xks.example.com")}
		s.KeyStores[0]["hosts"] = []string{"main.xks.example.com"}
		s.KeyStores[0]["certificates"] = []object{ca.pair(t, dir+"/main", "main.xks.example.com")}
		s.KeyStores[1]["hosts"] = []string{"other.xks.example.com"}
		s.KeyStores[1]["certificates"] = []object{ca.pair(t, dir+"/other", "other.xks.example.com")}
		s.KeyStores[2]["certificates"] = []object{ca.write(t, dir+"/ended", &x509.Certificate{
			Subject: pkix.Name{CommonName: "ended.example.org"}, DNSNames: []string{"ended.example.org"},
			NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		})}
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, want := range map[string]string{
			"main.xks.example.com": "main.xks.example.com", "OTHER.xks.example.com": "other.xks.example.com", "third.xks.example.com": "*.xks.example.com",
			"unknown.example.org": "localhost", "localhost": "localhost", "": "localhost",
		} {
			if got := p.served(t, name, version).Subject.CommonName; got != want {
				t.Errorf("%s: %q gets the certificate for %q, want %q", tls.VersionName(version), name, got, want)
			}
		}
	}
	p.log.wait(t, startLimit, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"level":"error"`) && strings.Contains(line, "the certificate expired on ") && strings.Contains(line, "ended.example.org")
	})
	// A client that verifies: curl signs for the host name that it asks for.
	_, port, _ := net.SplitHostPort(p.Listen)
	for _, version := range []string{"1.2", "1.3"} {
		name := "main.xks.example.com:" + port
		out := curl(t, "--tlsv"+version, "--tls-max", version, "--cacert", caOf(t, ca), "--connect-to", name+":"+p.Listen, "--request", "POST",
			"--aws-sigv4", "aws:amz:"+signedRegion+":"+signedService, "--user", p.world.Main.AccessKeyID+":"+p.world.Main.SecretAccessKey,
			"--header", "Content-Type: application/json", "--data-binary", string(encode(encryptBody([]byte("curl"), nil))),
			"--write-out", "%{http_code}", "https://"+name+mainPrefix+apiPath+encryptURI("key-1"))
		if !strings.HasSuffix(out, "200") {
			t.Errorf("TLS %s: %s", version, out)
		}
	}
	metrics := curl(t, "http://"+p.Health+"/metrics")
	for _, want := range []string{
		`xks_proxy_certificate_expiry_timestamp_seconds{key_store="main",name="main.xks.example.com",use="server"} `,
		`xks_proxy_certificate_expiry_timestamp_seconds{key_store="",name="localhost",use="server"} `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	// config check calls the expired one an error.
	_, stderr, code := command(t, "config", "check", "--no-secrets", p.file)
	if code != 1 || !strings.Contains(stderr, "key_stores[2].certificates[0].certificate: expired on ") {
		t.Errorf("config check: exit code %d: %s", code, stderr)
	}
}

func caOf(t testing.TB, ca testCA) string {
	t.Helper()
	path := t.TempDir() + "/ca.crt"
	writeFile(t, path, ca.pem())
	return path
}

// awsSubject is what AWS KMS's own client certificate is made out to.
const awsSubject = "cks.kms.eu-central-1.amazonaws.com"

// mutual adds a port on which only awsSubject may connect.
func mutual(s *settings, ca string) {
	s.Server["listeners"] = []object{{"listen": "127.0.0.3:0", "client_certificates": object{"ca": ca, "subjects": []string{awsSubject}}}}
}

// atMutual is a client of the port that mutual adds, with a certificate or without.
func (p *proxy) atMutual(t testing.TB, w way, shows object) *client {
	t.Helper()
	there := *p
	there.Listen = p.More[0]
	c := there.client(t, w)
	if shows != nil {
		pair, err := tls.LoadX509KeyPair(shows["certificate"].(string), shows["key"].(string))
		if err != nil {
			t.Fatal(err)
		}
		c.http.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

func TestClientCertificatePort(t *testing.T) {
	t.Parallel()
	ca, elsewhere := newTestCA(t, "Amazon's CA"), newTestCA(t, "another CA")
	dir := t.TempDir()
	p := newProxy(t, func(s *settings) { mutual(s, caOf(t, ca)) })
	good := ca.client(t, dir+"/good", awsSubject)
	refused := map[string]object{
		"absent": nil, "subject": ca.client(t, dir+"/subject", "cks.kms.us-east-1.amazonaws.com"), "unknown_authority": elsewhere.client(t, dir+"/ca", awsSubject),
		"usage": ca.pair(t, dir+"/usage", awsSubject),
		"expired": ca.write(t, dir+"/expired", &x509.Certificate{Subject: pkix.Name{CommonName: awsSubject}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}),
	}
	for _, w := range ways {
		c := p.atMutual(t, w, good)
		c.fleet(t)
		c.post(t, encryptURI("key-1"), encryptBody([]byte("mTLS"), nil)).wantOK(t, new(sealed))
		p.client(t, w).fleet(t) // the port beside it asks for no certificate
		for reason, shows := range refused {
			c := p.atMutual(t, w, shows)
			k := c.call(healthURI, encode(healthBody()))
			_, err := c.do(t.Context(), k)
			if err == nil {
				t.Errorf("%s: let in: %s", w, reason)
			}
			if line := p.log.find(func(line string) bool { return strings.Contains(line, requestIDOf(k.body)) }); line != "" {
				t.Errorf("%s: %s: a request was served: %s", w, reason, line)
			}
		}
	}
	for reason := range refused {
		eventually(t, 10*time.Second, func() error {
			got, err := strconv.Atoi(p.metric(t, fmt.Sprintf("xks_proxy_client_certificate_refusals_total{reason=%q}", reason)))
			if err != nil || got < len(ways) { // more, if an HTTP/2 client has tried again
				return fmt.Errorf("%s: %v refusals are counted, want %d", reason, got, len(ways))
			}
			return nil
		})
	}
	// curl has the CA bundle's names to choose by, and another TLS library.
	for _, version := range []string{"1.2", "1.3"} {
		out := curl(t, "--tlsv"+version, "--tls-max", version, "--cacert", p.world.file("ca.crt"), "--cert", dir+"/good.crt", "--key", dir+"/good.key",
			"--connect-to", "localhost:1:"+p.More[0], "https://localhost:1/healthz/live")
		if out != `{"status":"live"}` {
			t.Errorf("TLS %s: %q", version, out)
		}
	}
	lines := 0
	for _, line := range p.log.all() {
		if strings.Contains(line, `"msg":"client certificate refused"`) {
			lines++
		}
	}
	if lines < len(refused) {
		t.Errorf("%d lines about refusals for %d reasons", lines, len(refused))
	}
}

// Go's client offers all cipher suites of TLS 1.3 and cannot choose; curl can (requirement U8).
func TestCipherSuitesOfTLS13(t *testing.T) {
	t.Parallel()
	p := sharedProxy(t)
	for _, suite := range []string{"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"} {
		out := curl(t, "--tlsv1.3", "--tls13-ciphers", suite, "--cacert", p.world.file("ca.crt"), "--connect-to", "localhost:1:"+p.Listen, "https://localhost:1/healthz/live")
		if out != `{"status":"live"}` {
			t.Errorf("%s: %q", suite, out)
		}
	}
}
