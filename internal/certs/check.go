package certs

// What can be seen of a certificate without a network, and AWS KMS would stumble over (requirement
// C1).

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
)

const OneDay = 24 * time.Hour

const (
	minRSABits = 2048 // no public CA signs a shorter one
)

// When the end of a certificate is near depends on how long it is valid (requirement C1): one of 90
// days is renewed by ACME clients with a third of them left, one of 6 days with half of them or a
// third left (Let's Encrypt, certbot). So a quarter left means that a renewal has failed, and a
// tenth that little time is left to do it by hand. Certificates of a year or more give no longer
// notice than this. configs/alerts.yaml has the same limits.
const (
	LongestWarning = 30 * 24 * time.Hour
	longestAlert   = 10 * 24 * time.Hour
	warningPart    = 4  // of the lifetime
	alertPart      = 10 // likewise
)

// checkCertificate reports everything but the time that is left: see validity.
func checkCertificate(r *schema.Report, c *ServerCertificate) {
	leaf, at := c.Leaf, c.path+".certificate"
	chain, err := chainOf(c.Certificate)
	if err != nil {
		r.Errorf(at, "%s cannot be used: %v", c.file, err)
		return
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		r.Errorf(
			at, "the RSA key of %s has %d bits; at least %d are needed", c.file, key.N.BitLen(),
			minRSABits,
		)
	}
	if leaf.IsCA {
		r.Warnf(at, "the first certificate is of a CA; the server's own comes first")
	}
	usages := leaf.ExtKeyUsage
	if len(usages) > 0 && !slices.Contains(usages, x509.ExtKeyUsageServerAuth) &&
		!slices.Contains(usages, x509.ExtKeyUsageAny) {
		r.Warnf(at, "is not for servers (extended key usage serverAuth); AWS KMS refuses it")
	}
	warnCommonName(r, at, leaf)
	if c.path != "server.tls" && len(leaf.DNSNames) == 0 {
		r.Warnf(at, "has no DNS name, so that it is chosen for none")
	}
	warnChain(r, at, chain)
}

func warnCommonName(r *schema.Report, at string, leaf *x509.Certificate) {
	err := leaf.VerifyHostname(commonName(leaf))
	if err != nil || leaf.Subject.CommonName == "" {
		r.Warnf(at, "its subject CN %q is not among its DNS names; AWS KMS compares the CN with "+
			"the name of the endpoint", leaf.Subject.CommonName)
	}
}

// warnChain wants each certificate to be signed by the next, up to one whose issuer clients have.
func warnChain(r *schema.Report, at string, chain []*x509.Certificate) {
	for i := range len(chain) - 1 {
		err := chain[i].CheckSignatureFrom(chain[i+1])
		if err != nil {
			r.Warnf(at, "certificate %d of the file (%s) is not signed by the one after it (%s); "+
				"the intermediates follow in this order", i+1, chain[i].Subject, chain[i+1].Subject)
			return
		}
	}
	if len(chain) == 1 && !isSelfSigned(chain[0]) {
		r.Warnf(at, "comes without intermediates; AWS KMS needs those between it and the root "+
			"(%s signed it), in the same file after it", chain[0].Issuer)
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
	NotUrgent urgency = iota
	EndsSoon          // less than a quarter of its lifetime is left, and less than 30 days
	EndsNow           // less than a tenth, and less than 10 days
	Unusable          // it has ended, or not begun
)

// urgencyOf is for a certificate that is valid from notBefore to notAfter.
func urgencyOf(notBefore, notAfter, now time.Time) urgency {
	left, lifetime := notAfter.Sub(now), notAfter.Sub(notBefore)
	switch {
	case left < 0, now.Before(notBefore):
		return Unusable
	case left < min(longestAlert, lifetime/alertPart):
		return EndsNow
	case left < min(LongestWarning, lifetime/warningPart):
		return EndsSoon
	}
	return NotUrgent
}

// validity describes the time that a certificate has left; "" if that is enough.
func validity(leaf *x509.Certificate, now time.Time) (string, urgency) {
	how := urgencyOf(leaf.NotBefore, leaf.NotAfter, now)
	switch {
	case how == NotUrgent:
		return "", how
	case now.Before(leaf.NotBefore):
		return "is not valid before " + text.Time(leaf.NotBefore), how
	case how == Unusable:
		return fmt.Sprintf(
			"has expired on %s; put a new one in its place", text.Time(leaf.NotAfter),
		), how
	}
	return fmt.Sprintf(
		"expires in %s, on %s", TimeLeft(leaf.NotAfter.Sub(now)), text.Time(leaf.NotAfter),
	), how
}

// TimeLeft is in whole days while there are at least two.
func TimeLeft(left time.Duration) string {
	if left < 2*OneDay {
		return text.Duration(left)
	}
	return text.Plural(int(left/OneDay), "day")
}

// CheckValidity reports an end that has come as an error and one that is near as a warning.
func CheckValidity(r *schema.Report, m *Material, now time.Time) {
	for _, c := range m.Certificates {
		says, how := validity(c.Leaf, now)
		switch how {
		case NotUrgent:
		case Unusable:
			r.Errorf(c.path+".certificate", "%s", says)
		default:
			r.Warnf(c.path+".certificate", "%s", says)
		}
	}
	for _, ca := range m.clientCAs {
		says, how := validity(ca.Certificate, now)
		if how == EndsSoon || how == EndsNow { // newClientRule reports those that are not valid
			r.Warnf(ca.path, "the CA %s in %s %s; after that no client certificate is accepted "+
				"from it",
				ca.name(), ca.file, says)
		}
	}
}
