package test

// Certificates: a root, an intermediate and a server's, as a real one has them.

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"path/filepath"
	"testing"
	"xks-proxy/internal/testkit"
)

// newCertificates writes server.crt (with the intermediate), server.key and ca.crt, and
// gives the root to trust.
func newCertificates(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	root := testkit.NewCA(t, "root")
	intermediate := testkit.Issue(
		t,
		root,
		nil,
		&x509.Certificate{
			Subject:  pkix.Name{CommonName: "intermediate"},
			IsCA:     true,
			KeyUsage: x509.KeyUsageCertSign,
		},
	)
	server := testkit.Issue(t, intermediate, nil, &x509.Certificate{
		Subject: pkix.Name{
			CommonName: "localhost",
		}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	writeFile(t, filepath.Join(dir, "server.crt"), server.PEM())
	writeFile(t, filepath.Join(dir, "server.key"), server.KeyPEM(t))
	writeFile(t, filepath.Join(dir, "ca.crt"), testkit.PEM("CERTIFICATE", root.Raw))
	pool := x509.NewCertPool()
	pool.AddCert(root.Certificate)
	return pool
}
