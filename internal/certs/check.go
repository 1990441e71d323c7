package certs

// What AWS KMS would refuse in a certificate, as far as the file alone shows it (requirement C1).

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

// OneDay is the unit in which the remaining validity is reported.
const OneDay = 24 * time.Hour

const (
	minRSABits = 2048 // no public CA signs a shorter one
)

// The notice before a certificate expires depends on its lifetime (requirement C1). ACME clients
// renew a certificate of 90 days when a third of them is left, and one of 6 days when a half or a
// third is left (Let's Encrypt, certbot). So a quarter left means that a renewal failed, and a
// tenth left means that it is time to renew by hand. The two limits below bound the notice for
// certificates of a year or more. configs/alerts.yaml has the same limits.
const (
	// LongestWarning is the longest notice before a certificate expires.
	LongestWarning = 30 * 24 * time.Hour
	longestAlert   = 10 * 24 * time.Hour
	warningPart    = 4  // of the lifetime
	alertPart      = 10 // likewise
)

// checkCertificate reports everything but the remaining validity, which CheckValidity reports.
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
		r.Warnf(at, "has no DNS name, so it is never chosen")
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

// warnChain warns unless each certificate is signed by the next one.
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

// commonName returns the CN, with a name in place of a wildcard so that it can be verified.
func commonName(leaf *x509.Certificate) string {
	if domain, found := strings.CutPrefix(leaf.Subject.CommonName, "*."); found {
		return "x." + domain
	}
	return leaf.Subject.CommonName
}

// urgency is how soon an operator has to replace a certificate.
type urgency int

// The urgencies, in ascending order.
const (
	NotUrgent urgency = iota
	EndsSoon          // less than a quarter of its lifetime is left, and less than 30 days
	EndsNow           // less than a tenth of its lifetime is left, and less than 10 days
	Unusable          // it has expired, or is not valid yet
)

// urgencyOf returns the urgency of a certificate that is valid from notBefore to notAfter.
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

// validity describes the remaining validity of a certificate. It returns "" while that is not
// urgent.
func validity(leaf *x509.Certificate, now time.Time) (string, urgency) {
	how := urgencyOf(leaf.NotBefore, leaf.NotAfter, now)
	switch {
	case how == NotUrgent:
		return "", how
	case now.Before(leaf.NotBefore):
		return "is not valid before " + text.Time(leaf.NotBefore), how
	case how == Unusable:
		return fmt.Sprintf(
			"expired on %s; replace it", text.Time(leaf.NotAfter),
		), how
	}
	return fmt.Sprintf(
		"expires in %s, on %s", TimeLeft(leaf.NotAfter.Sub(now)), text.Time(leaf.NotAfter),
	), how
}

// TimeLeft formats a duration, in whole days if there are at least two.
func TimeLeft(left time.Duration) string {
	if left < 2*OneDay {
		return text.Duration(left)
	}
	return text.Plural(int(left/OneDay), "day")
}

// CheckValidity reports certificates that are not valid now as errors, and certificates that expire
// soon as warnings.
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
