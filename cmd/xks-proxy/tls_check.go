package main

// What can be seen of a certificate without a network, and AWS KMS would stumble over (requirement C1).

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	minRSABits = 2048 // no public CA signs a shorter one

	certificateWarning = 30 * 24 * time.Hour // requirement C1
	certificateAlert   = 10 * 24 * time.Hour // likewise
)

// checkCertificate reports everything but the time that is left: see validity.
func checkCertificate(r *report, c *serverCertificate) {
	leaf, at := c.Leaf, c.path+".certificate"
	chain, err := chainOf(c.Certificate)
	if err != nil {
		r.errorf(at, "%s cannot be used: %v", c.file, err)
		return
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		r.errorf(at, "the RSA key of %s has %d bits; at least %d are needed", c.file, key.N.BitLen(), minRSABits)
	}
	if leaf.IsCA {
		r.warnf(at, "the first certificate is of a CA; the server's own comes first")
	}
	usages := leaf.ExtKeyUsage
	if len(usages) > 0 && !slices.Contains(usages, x509.ExtKeyUsageServerAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny) {
		r.warnf(at, "is not for servers (extended key usage serverAuth); AWS KMS refuses it")
	}
	warnCommonName(r, at, leaf)
	if c.path != "server.tls" && len(leaf.DNSNames) == 0 {
		r.warnf(at, "has no DNS name, so that it is chosen for none")
	}
	warnChain(r, at, chain)
}

func warnCommonName(r *report, at string, leaf *x509.Certificate) {
	err := leaf.VerifyHostname(commonName(leaf))
	if err != nil || leaf.Subject.CommonName == "" {
		r.warnf(at, "its subject CN %q is not among its DNS names; AWS KMS compares the CN with the name of the endpoint", leaf.Subject.CommonName)
	}
}

// warnChain wants each certificate to be signed by the next, up to one whose issuer clients have.
func warnChain(r *report, at string, chain []*x509.Certificate) {
	for i := range len(chain) - 1 {
		err := chain[i].CheckSignatureFrom(chain[i+1])
		if err != nil {
			r.warnf(at, "certificate %d of the file (%s) is not signed by the one after it (%s); the intermediates follow in this order", i+1, chain[i].Subject, chain[i+1].Subject)
			return
		}
	}
	if len(chain) == 1 && !isSelfSigned(chain[0]) {
		r.warnf(at, "comes without intermediates; AWS KMS needs those between it and the root (%s signed it), in the same file after it", chain[0].Issuer)
	}
}

// commonName is the CN with a wildcard filled in, so that it can be looked up.
func commonName(leaf *x509.Certificate) string {
	if domain, found := strings.CutPrefix(leaf.Subject.CommonName, "*."); found {
		return "x." + domain
	}
	return leaf.Subject.CommonName
}

// urgency is how much a certificate's end is a matter for an operator.
type urgency int

const (
	notUrgent urgency = iota
	endsSoon          // within 30 days
	endsNow           // within 10
	unusable          // it has ended, or not begun
)

// validity says what is to be said of the time that a certificate has left; "" if that is enough.
func validity(leaf *x509.Certificate, now time.Time) (string, urgency) {
	left := leaf.NotAfter.Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		return "is not valid before " + leaf.NotBefore.UTC().Format(time.RFC3339), unusable
	case left < 0:
		return fmt.Sprintf("has expired on %s; put a new one in its place", leaf.NotAfter.UTC().Format(time.RFC3339)), unusable
	case left < certificateAlert:
		return expiresIn(leaf, left), endsNow
	case left < certificateWarning:
		return expiresIn(leaf, left), endsSoon
	}
	return "", notUrgent
}

func expiresIn(leaf *x509.Certificate, left time.Duration) string {
	return fmt.Sprintf("expires in %d days, on %s", int(left.Hours()/24), leaf.NotAfter.UTC().Format(time.RFC3339))
}

// checkValidity reports an end that has come as an error and one that is near as a warning.
func checkValidity(r *report, m *tlsMaterial, now time.Time) {
	for _, c := range m.certificates {
		says, how := validity(c.Leaf, now)
		switch how {
		case notUrgent:
		case unusable:
			r.errorf(c.path+".certificate", "%s", says)
		default:
			r.warnf(c.path+".certificate", "%s", says)
		}
	}
}
