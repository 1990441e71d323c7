package server

// Which certificate is served for which name, and what is said of certificates that are wrong.

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

// choices is a rig with a server that has several certificates, and three key stores.
func choices(t *testing.T) *tlsRig {
	r := newTLSRig(t)
	longKey := testkit.NewRSA(t, 2048)
	sign := func(file string, key crypto.Signer, names ...string) config.CertificateFiles {
		return r.pair(file, r.serverCA.ForServer(t, key, names...))
	}
	r.config.Server.TLS.More = []config.CertificateFiles{
		sign("more-wild", nil, "*.example.com"),
		sign("more-rsa", longKey, "twin.example.com"),
		sign("more-ecdsa", nil, "twin.example.com", "Other.Example.com"),
		sign("more-exact", nil, "exact.example.net"),
	}
	r.config.KeyStores = []config.KeyStore{
		{Name: "finance", Hosts: []string{"kms.finance.example.com", "SHARED.example.com"}, Certificates: []config.CertificateFiles{
			sign("finance", nil, "kms.finance.example.com", "b.health.example.com"), sign("finance-wild", nil, "*.health.example.com", "*.finance.example.com"),
		}},
		{Name: "health", Hosts: []string{"a.health.example.com", "b.health.example.com", "own.example.com", "shared.example.com"}, Certificates: []config.CertificateFiles{
			sign("health", nil, "own.example.com"),
		}},
		{Name: "anywhere"},
	}
	return r
}

// Of two certificates for one name, the one that is valid is served, wherever it stands.
func TestExpiredCertificateGivesWay(t *testing.T) {
	r := newTLSRig(t)
	expired := testkit.Issue(t, r.serverCA, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: "twin.example.com"}, DNSNames: []string{"twin.example.com"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
	})
	r.config.Server.TLS.More = []config.CertificateFiles{r.pair("old", expired), r.pair("new", r.serverCA.ForServer(t, nil, "twin.example.com"))}
	r.start()
	config := r.clientTLS(tls.VersionTLS13)
	config.ServerName = "twin.example.com"
	_, err := r.get(plainPort, config)
	if err != nil {
		t.Error(err)
	}
}

// badCertificates are ways to get it wrong, and what is said of each.
var badCertificates = []struct {
	name  string
	spoil func(t *testing.T, r *tlsRig)
	err   string // part of it
	warns string // part of a warning; "": none
}{
	{name: "good", spoil: func(*testing.T, *tlsRig) {}},
	{name: "key of another", err: "server.tls: ", spoil: func(t *testing.T, r *tlsRig) {
		testkit.WriteFile(t, r.config.Server.TLS.Key, testkit.NewCA(t, "x").KeyPEM(t), 0o600)
	}},
	{name: "both files are named", err: "server.crt and ", spoil: func(t *testing.T, r *tlsRig) {
		testkit.WriteFile(t, r.config.Server.TLS.Key, testkit.NewCA(t, "x").KeyPEM(t), 0o600)
	}},
	{name: "of a key store", err: "key_stores[1].certificates[0]: ", spoil: func(t *testing.T, r *tlsRig) {
		testkit.WriteFile(t, r.config.KeyStores[1].Certificates[0].Key, testkit.NewCA(t, "x").KeyPEM(t), 0o600)
	}},
	{name: "intermediate first", err: "; the certificate of this key is number 2 in the file: put it first", spoil: func(t *testing.T, r *tlsRig) {
		leaf := r.serverCA.ForServer(t, nil, "xks.example.com")
		r.pair("server", leaf)
		testkit.WriteFile(t, r.config.Server.TLS.Certificate, r.serverCA.PEM()+leaf.PEM(), 0o644)
	}},
	{name: "encrypted key", err: "is encrypted with a passphrase", spoil: func(t *testing.T, r *tlsRig) {
		testkit.WriteFile(t, r.config.Server.TLS.Key, testkit.PEM("ENCRYPTED PRIVATE KEY", []byte("x")), 0o600)
	}},
	{name: "encrypted key of old", err: "is encrypted with a passphrase", spoil: func(t *testing.T, r *tlsRig) {
		block := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte("x")}
		testkit.WriteFile(t, r.config.Server.TLS.Key, string(pem.EncodeToMemory(block)), 0o600)
	}},
	{name: "key open to others", err: "is open to others (mode 0644)", spoil: func(t *testing.T, r *tlsRig) {
		err := os.Chmod(r.config.Server.TLS.Key, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}},
	{name: "weak", err: "server.tls.certificate: the RSA key of ", spoil: func(t *testing.T, r *tlsRig) {
		r.pair("server", r.serverCA.ForServer(t, testkit.NewRSA(t, 1024), "xks.example.com"))
	}},
	{name: "one name in two key stores", err: `own.example.com is a name of this certificate of key store "health" and of one of key store "finance"`, spoil: func(t *testing.T, r *tlsRig) {
		r.config.KeyStores[0].Certificates = append(r.config.KeyStores[0].Certificates, r.pair("clash", r.serverCA.ForServer(t, nil, "OWN.example.com")))
	}},
	{name: "one wildcard in two key stores", err: "*.health.example.com is a name of this certificate", spoil: func(t *testing.T, r *tlsRig) {
		r.config.KeyStores[1].Certificates = append(r.config.KeyStores[1].Certificates, r.pair("clash", r.serverCA.ForServer(t, nil, "*.health.example.com")))
	}},
	{name: "no intermediates", warns: "server.tls.certificate: comes without intermediates", spoil: func(t *testing.T, r *tlsRig) {
		leaf := r.serverCA.ForServer(t, nil, "xks.example.com")
		r.pair("server", leaf)
		testkit.WriteFile(t, r.config.Server.TLS.Certificate, testkit.PEM("CERTIFICATE", leaf.Raw), 0o644)
	}},
	{name: "intermediates in the wrong order", warns: "is not signed by the one after it", spoil: func(t *testing.T, r *tlsRig) {
		leaf := r.serverCA.ForServer(t, nil, "xks.example.com")
		r.pair("server", leaf)
		testkit.WriteFile(t, r.config.Server.TLS.Certificate, testkit.PEM("CERTIFICATE", leaf.Raw)+testkit.PEM("CERTIFICATE", r.serverRoot.Raw)+r.serverCA.PEM(), 0o644)
	}},
	{name: "CN is not a DNS name", warns: `its subject CN "a name" is not among its DNS names`, spoil: func(t *testing.T, r *tlsRig) {
		r.pair("server", testkit.Issue(t, r.serverCA, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "a name"}, DNSNames: []string{"xks.example.com"}}))
	}},
	{name: "for clients", warns: "is not for servers", spoil: func(t *testing.T, r *tlsRig) {
		r.pair("server", r.serverCA.ForClient(t, "xks.example.com", func(c *x509.Certificate) { c.DNSNames = []string{"xks.example.com"} }))
	}},
	{name: "no DNS name", warns: "key_stores[1].certificates[0].certificate: has no DNS name", spoil: func(t *testing.T, r *tlsRig) {
		r.pair("health", testkit.Issue(t, r.serverCA, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "own.example.com"}}))
	}},
	{name: "no certificate for a host", warns: "key_stores[2].hosts[0]: no certificate is for elsewhere.example.org; clients get ", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.KeyStores[2].Hosts = []string{"elsewhere.example.org"}
	}},
	{name: "one address for two ports", err: "server.listeners[0].listen: is the address of another port, too", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.Server.Listeners[0].Listen = r.config.Server.Listen
	}},
	{name: "subjects without a CA", err: "server.client_certificates.ca: is needed with subjects", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.Server.ClientCertificates.Subjects = []string{kmsSubject}
	}},
	{name: "a CA without subjects", err: "server.listeners[0].client_certificates.subjects: must name", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.Server.Listeners[0].ClientCertificates.Subjects = nil
	}},
	{name: "an empty subject", err: "server.listeners[0].client_certificates.subjects: must name", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.Server.Listeners[0].ClientCertificates.Subjects = []string{kmsSubject, ""}
	}},
	{name: "no CA bundle", err: "server.listeners[0].client_certificates.ca: ", spoil: func(_ *testing.T, r *tlsRig) {
		r.config.Server.Listeners[0].ClientCertificates.CA = filepath.Join(r.dir, "nothing.pem")
	}},
	{name: "empty CA bundle", err: "holds no certificate in PEM", spoil: func(t *testing.T, r *tlsRig) { r.bundle("clients.pem") }},
	{name: "CA bundle that others can change", err: "can be changed by others (mode 0666)", spoil: func(t *testing.T, r *tlsRig) {
		err := os.Chmod(filepath.Join(r.dir, "clients.pem"), 0o666)
		if err != nil {
			t.Fatal(err)
		}
	}},
	{name: "CA bundle with a key", err: "holds a private key", spoil: func(t *testing.T, r *tlsRig) {
		testkit.AppendToFile(t, filepath.Join(r.dir, "clients.pem"), r.clientCA.KeyPEM(t))
	}},
	{name: "CA bundle with a leaf", err: "is not of a CA", spoil: func(t *testing.T, r *tlsRig) {
		r.bundle("clients.pem", r.clientCA, r.clientCA.ForClient(t, kmsSubject, nil))
	}},
	{name: "CA bundle that is cut off", err: "holds 2 blocks of PEM, of which 1 can be read", spoil: func(t *testing.T, r *tlsRig) {
		path := filepath.Join(r.dir, "clients.pem")
		whole := testkit.ReadFile(t, path)
		testkit.WriteFile(t, path, whole+whole[:len(whole)/2], 0o644)
	}},
	{name: "an expired CA", warns: "no client certificate is accepted from it now", spoil: func(t *testing.T, r *tlsRig) {
		r.bundle("clients.pem", r.clientCA, testkit.Issue(t, nil, nil, &x509.Certificate{
			Subject: pkix.Name{CommonName: "old CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		}))
	}},
}

// A certificate of one key store that names another's host is told of.
func TestCertificateForAnotherKeyStoresHost(t *testing.T) {
	_, warnings, err := certs.Prepare(choices(t).config)
	if err != nil {
		t.Fatal(err)
	}
	want := `finance.crt has the name b.health.example.com, which is a host of key store "health": it is not served for it`
	if !slices.ContainsFunc(warnings, func(w schema.Warning) bool { return strings.Contains(w.String(), want) }) {
		t.Errorf("%v", warnings)
	}
}
