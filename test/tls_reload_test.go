package test

// Certificates and CA bundles of the real program are replaced while it serves (requirement C1): by
// changing the files, with a SIGHUP.

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const reloadLimit = 20 * time.Second

// servesAnother waits until a client gets another certificate than this.
func (p *proxy) servesAnother(t testing.TB, than []byte) {
	t.Helper()
	eventually(t, reloadLimit, func() error {
		if string(p.served(t, "localhost", tls.VersionTLS13).Raw) == string(than) {
			return fmt.Errorf("the old certificate is served; log:\n%s", p.log.tail(10))
		}
		return nil
	})
}

func TestCertificateIsRenewed(t *testing.T) {
	t.Parallel()
	ca, next := newTestCA(t, "Amazon's CA"), newTestCA(t, "the CA after it")
	dir := t.TempDir()
	bundle := caOf(t, ca)
	p := newProxy(t, func(s *settings) { mutual(s, bundle) })
	stands := p.client(t, http2)
	stands.fleet(t)
	old := p.served(t, "localhost", tls.VersionTLS13).Raw

	// A key without its certificate: nothing changes.
	renewed := p.world.file("renewed")
	err := os.Mkdir(renewed, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	roots := newCertificates(t, renewed)
	rename(t, filepath.Join(renewed, "server.key"), p.world.file("server.key"))
	mark := p.log.mark()
	hangUp(t, p)
	eventually(t, reloadLimit, func() error {
		for _, line := range p.log.since(mark) {
			if strings.Contains(line, "private key does not match public key") {
				return nil
			}
		}
		return fmt.Errorf("the log does not tell of the pair that does not match:\n%s", p.log.tail(10))
	})
	if string(p.served(t, "localhost", tls.VersionTLS13).Raw) != string(old) {
		t.Error("half a pair was taken")
	}
	// Now the certificate.
	rename(t, filepath.Join(renewed, "server.crt"), p.world.file("server.crt"))
	hangUp(t, p)
	p.servesAnother(t, old)
	stands.fleet(t) // over the connection that stood
	p.world.CA = roots
	for _, w := range ways {
		p.client(t, w).fleet(t)
	}
	// The CA bundle: the new CA's clients are let in, those of the old one are not.
	writeFile(t, bundle+".new", next.pem())
	rename(t, bundle+".new", bundle)
	hangUp(t, p)
	good, gone := next.client(t, dir+"/next", awsSubject), ca.client(t, dir+"/gone", awsSubject)
	eventually(t, reloadLimit, func() error {
		c := p.atMutual(t, http1, good)
		_, err := c.do(t.Context(), c.call(healthURI, encode(healthBody())))
		return err
	})
	for _, w := range ways {
		c := p.atMutual(t, w, gone)
		_, err := c.do(t.Context(), c.call(healthURI, encode(healthBody())))
		if err == nil {
			t.Errorf("%s: a client of the CA that was taken out is let in", w)
		}
	}
}

func hangUp(t testing.TB, p *proxy) {
	t.Helper()
	err := p.Signal(syscall.SIGHUP)
	if err != nil {
		t.Fatal(err)
	}
}

func rename(t testing.TB, from, to string) {
	t.Helper()
	err := os.Rename(from, to)
	if err != nil {
		t.Fatal(err)
	}
}
