package demo

// The demo's certificate, signed by a CA made for nothing else.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
)

const (
	demoCertificateLife = 365 * 24 * time.Hour
	demoClockSkew       = time.Hour // clocks of containers and hosts differ
)

// demoNames are in every certificate of the demo. The first is its CN.
var demoNames = []string{"localhost", "127.0.0.1", "::1"}

// EnsureCertificate makes ca.crt, server.crt and server.key unless those that are there
// will do for host. It returns a line that says what the certificate is for.
func (d *Directory) EnsureCertificate(host string, now time.Time) (string, error) {
	names := slices.Clone(demoNames)
	if !slices.Contains(names, host) {
		names = append(names, host)
	}
	until, ok := d.certificateUntil(names, now)
	if !ok {
		until = now.Add(demoCertificateLife)
		err := d.makeCertificate(names, now, until)
		if err != nil {
			return "", fmt.Errorf("the certificate cannot be made: %w", err)
		}
	}
	return fmt.Sprintf(
		"for %s, until %s; trust ca.crt",
		strings.Join(names, ", "),
		until.UTC().Format(time.DateOnly),
	), nil
}

// certificateUntil returns when the certificate ends, if it is valid for all names and long enough.
func (d *Directory) certificateUntil(names []string, now time.Time) (time.Time, bool) {
	certificate, err := certs.ReadCertificate(
		config.CertificateFiles{Certificate: d.certificate(), Key: d.key()},
	)
	if err != nil {
		return time.Time{}, false
	}
	ca, err := os.ReadFile(d.ca())
	if err != nil {
		return time.Time{}, false
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range names {
		_, err := certificate.Leaf.Verify(
			x509.VerifyOptions{
				Roots:       roots,
				DNSName:     name,
				CurrentTime: now.Add(certs.LongestWarning),
			},
		)
		if err != nil {
			return time.Time{}, false
		}
	}
	return certificate.Leaf.NotAfter, true
}

// makeCertificate writes a new CA's certificate, and a server certificate with its
// key. The CA's key is dropped: nothing else can ever be signed with it.
func (d *Directory) makeCertificate(names []string, now, until time.Time) error {
	ca := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "xks-proxy demo CA, trust it for the demo only"},
		NotBefore: now.Add(-demoClockSkew), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{
		Subject:   pkix.Name{CommonName: names[0]},
		NotBefore: now.Add(-demoClockSkew), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePrivate(d.ca(), encodePEM("CERTIFICATE", caDER)),
		writePrivate(
			d.certificate(),
			append(encodePEM("CERTIFICATE", der), encodePEM("CERTIFICATE", caDER)...),
		), // the whole chain
		writePrivate(d.key(), encodePEM("PRIVATE KEY", keyDER)),
	)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
