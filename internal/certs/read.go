package certs

// Reading certificates, their keys and CA bundles from the files that a configuration
// names. No error quotes what a file holds.

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
)

// ReadCertificate loads a certificate chain and its key, which must match and be private to its
// owner. The error names the files.
func ReadCertificate(c config.CertificateFiles) (tls.Certificate, error) {
	f, err := guarded.OpenPrivate(c.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, schema.MaxConfigSize))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the key cannot be read: %w", err)
	}
	defer clear(key)
	chain, err := guarded.ReadLimited(c.Certificate, schema.MaxConfigSize)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	if isEncrypted(key) {
		return tls.Certificate{}, fmt.Errorf("%s is encrypted with a passphrase; store it "+
			"without one, readable by its owner only", c.Key)
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf(
			"%s and %s cannot be used: %w%s", c.Certificate, c.Key, err, standsLater(chain, key),
		)
	}
	return certificate, nil
}

// ReadChain is ReadCertificate without the key, for a user who cannot read the key.
func ReadChain(c config.CertificateFiles) (tls.Certificate, error) {
	text, err := guarded.ReadLimited(c.Certificate, schema.MaxConfigSize)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	var chain tls.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			chain.Certificate = append(chain.Certificate, block.Bytes)
		}
	}
	if len(chain.Certificate) == 0 {
		return tls.Certificate{}, fmt.Errorf("%s holds no certificate in PEM", c.Certificate)
	}
	chain.Leaf, err = x509.ParseCertificate(chain.Certificate[0])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf(
			"the first certificate in %s cannot be read: %w", c.Certificate, err,
		)
	}
	return chain, nil
}

// isEncrypted recognizes both forms: that of PKCS#8 and the older one of OpenSSL (RFC 1421).
func isEncrypted(key []byte) bool {
	for block, rest := pem.Decode(key); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return true
		}
	}
	return false
}

// standsLater explains that the server's certificate comes after the intermediates in the file.
func standsLater(chain, key []byte) string {
	for number, rest := 1, chain; ; number++ {
		block, after := pem.Decode(rest)
		if block == nil {
			return ""
		}
		_, err := tls.X509KeyPair(pem.EncodeToMemory(block), key)
		if err == nil && number > 1 {
			return fmt.Sprintf("; the certificate of this key is number %d in the file: put it "+
				"first", number)
		}
		rest = after
	}
}

// caBundle is the CAs that client certificates may come from.
type caBundle struct {
	roots        *x509.CertPool
	certificates []*x509.Certificate
}

// readCABundle reads a PEM file of CA certificates. It refuses the file if any part cannot be read:
// a CA that is skipped silently would be missed only when a client is refused.
func readCABundle(path string) (*caBundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, guarded.Problem(path, err)
	}
	err = guarded.CheckUnwritable(path, info) // who can change it decides who may connect
	if err != nil {
		return nil, err
	}
	text, err := guarded.ReadLimited(path, schema.MaxConfigSize)
	if err != nil {
		return nil, err
	}
	if len(text) > schema.MaxConfigSize {
		return nil, fmt.Errorf("%s is longer than %d bytes", path, schema.MaxConfigSize)
	}
	bundle := &caBundle{roots: x509.NewCertPool()}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf(
				"%s holds a %s; only certificates of CAs belong there", path,
				strings.ToLower(block.Type),
			)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf(
				"certificate %d in %s cannot be read: %w", len(bundle.certificates)+1, path, err,
			)
		}
		if !certificate.IsCA {
			return nil, fmt.Errorf(
				"certificate %d in %s (%s) is not of a CA", len(bundle.certificates)+1, path,
				certificate.Subject,
			)
		}
		bundle.roots.AddCert(certificate)
		bundle.certificates = append(bundle.certificates, certificate)
	}
	if len(bundle.certificates) == 0 {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	if left := bytes.Count(text, []byte("-----BEGIN ")); left != len(bundle.certificates) {
		return nil, fmt.Errorf(
			"%s holds %d blocks of PEM, of which %d can be read", path, left,
			len(bundle.certificates),
		)
	}
	return bundle, nil
}

// isSelfSigned reports whether a certificate is signed with its own key, such as a root.
func isSelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// chainOf parses the certificates that a server sends. The first is the leaf.
func chainOf(c tls.Certificate) ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, 0, len(c.Certificate))
	for i, der := range c.Certificate {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the file cannot be read: %w", i+1, err)
		}
		chain = append(chain, parsed)
	}
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return chain, nil
}
