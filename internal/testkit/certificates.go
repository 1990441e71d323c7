package testkit

// Certificates, and a CA that signs what a test needs.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// Issued is a certificate with its key and issuer. The issuer of a self-signed certificate is nil.
type Issued struct {
	*x509.Certificate
	Key crypto.Signer
	by  *Issued
}

// Issue signs a certificate with the key of by; with nil it is self-signed. A nil key stands for a
// new ECDSA key. Issue fills in the times that the template lacks, and the serial number.
func Issue(t testing.TB, by *Issued, key crypto.Signer, template *x509.Certificate) *Issued {
	t.Helper()
	if key == nil {
		key = NewECDSA(t)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(90 * 24 * time.Hour)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.BasicConstraintsValid = serial, true
	parent, signer := template, key
	if by != nil {
		parent, signer = by.Certificate, by.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Issued{parsed, key, by}
}

// NewECDSA makes a P-256 key.
func NewECDSA(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// NewRSA makes an RSA key.
func NewRSA(t testing.TB, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// NewCA makes a root CA.
func NewCA(t testing.TB, name string) *Issued {
	t.Helper()
	return Issue(t, nil, nil, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	})
}

// ForServer signs a server's certificate; the first name is the CN.
func (c *Issued) ForServer(t testing.TB, key crypto.Signer, names ...string) *Issued {
	t.Helper()
	return Issue(t, c, key, &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// ForClient signs a client's certificate, changed by edit.
func (c *Issued) ForClient(t testing.TB, name string, edit func(*x509.Certificate)) *Issued {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if edit != nil {
		edit(template)
	}
	return Issue(t, c, nil, template)
}

// PEM is the certificate followed by its issuers, the root left out.
func (c *Issued) PEM() string {
	text := ""
	for _, der := range c.chain() {
		text += PEM("CERTIFICATE", der)
	}
	return text
}

// KeyPEM is the key as PKCS #8.
func (c *Issued) KeyPEM(t testing.TB) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	return PEM("PRIVATE KEY", der)
}

// ForTLS is the certificate as a client presents it.
func (c *Issued) ForTLS() tls.Certificate {
	return tls.Certificate{Certificate: c.chain(), PrivateKey: c.Key}
}

func (c *Issued) chain() [][]byte {
	var chain [][]byte
	for ; c != nil && (c.by != nil || !c.IsCA); c = c.by {
		chain = append(chain, c.Raw)
	}
	return chain
}

// PEM encodes one block without headers.
func PEM(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// Certificate makes a self-signed certificate with name as its CN, for
// xks.example.com and *.wild.example.com. It is valid for the year before end. Both results are
// PEM.
func Certificate(t testing.TB, name string, end time.Time) (string, string) {
	t.Helper()
	c := Issue(t, nil, nil, &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		DNSNames:  []string{"xks.example.com", "*.wild.example.com"},
		NotBefore: end.Add(-365 * 24 * time.Hour), NotAfter: end,
	})
	return c.PEM(), c.KeyPEM(t)
}
