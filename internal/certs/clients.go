package certs

// mTLS: whose client certificates are accepted on a port (requirement A7).

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// ClientRule is what a port requires of client certificates. It is immutable.
type ClientRule struct {
	roots *x509.CertPool
	// roots as the server names them to clients; nil if there are too many
	named    *x509.CertPool
	CAs      []*x509.Certificate // roots, one by one
	issuers  []*clientCA         // the same, with their place
	Subjects []string            // common names accepted
	usages   []x509.ExtKeyUsage
}

// clientCA is a CA whose client certificates are accepted.
type clientCA struct {
	*x509.Certificate
	path string // key of the configuration, such as server.client_certificates.ca
	file string
}

// maxCAName bounds a label value and a line, bytes.
const maxCAName = 200

// name is the CN, or all of the subject where there is none.
func (c *clientCA) name() string {
	name := cmp.Or(c.Subject.CommonName, c.Subject.String())
	return strings.ToValidUTF8(name[:min(len(name), maxCAName)], "?")
}

// maxNamedCAs bounds the names of CAs in a CertificateRequest, bytes. TLS has room for 65535
// (RFC 8446 section 4.2.4); without them clients choose for themselves.
const maxNamedCAs = 16 << 10

var usagesByName = map[string]x509.ExtKeyUsage{
	"clientAuth": x509.ExtKeyUsageClientAuth, "serverAuth": x509.ExtKeyUsageServerAuth,
	"any": x509.ExtKeyUsageAny,
}

// newClientRule reads the rule of a port. It returns nil without a CA bundle, and after a problem,
// which it reports.
func newClientRule(r *schema.Report, at string, c config.ClientCertificates) *ClientRule {
	switch {
	case c.CA == "" && len(c.Subjects) > 0:
		r.Errorf(at+".ca", "is needed with subjects; without it no client certificate would be "+
			"asked for")
		return nil
	case c.CA == "":
		return nil
	case len(c.Subjects) == 0 || slices.Contains(c.Subjects, ""):
		r.Errorf(at+".subjects", "must name the subject CNs to accept, such as "+
			"cks.kms.eu-central-1.amazonaws.com; the CAs sign others' certificates, too")
		return nil
	}
	bundle, err := readCABundle(c.CA)
	if err != nil {
		r.Errorf(at+".ca", "%v", err)
		return nil
	}
	rule := &ClientRule{
		roots: bundle.roots, named: bundle.roots, CAs: bundle.certificates, Subjects: c.Subjects,
	}
	size := 0
	for i, ca := range bundle.certificates {
		rule.issuers = append(
			rule.issuers, &clientCA{Certificate: ca, path: at + ".ca", file: c.CA},
		)
		size += len(ca.RawSubject) + 2
		if !isValid(ca, time.Now()) {
			r.Warnf(at+".ca", "certificate %d in %s (%s) is valid from %s to %s only: no client "+
				"certificate is accepted from it now", i+1, c.CA, ca.Subject,
				ca.NotBefore.UTC().Format(time.RFC3339), ca.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	if size > maxNamedCAs {
		rule.named = nil
	}
	for _, name := range c.Usages {
		rule.usages = append(rule.usages, usagesByName[name])
	}
	if len(rule.usages) == 0 {
		// Package x509 would take an empty list for serverAuth.
		rule.usages = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	return rule
}

// RefusalReason is why a client certificate was refused; a label value.
type RefusalReason string

// The reasons for which client certificates are refused.
const (
	RefusedAbsent   RefusalReason = "absent"
	RefusedSubject  RefusalReason = "subject"
	RefusedExpired  RefusalReason = "expired"
	RefusedTooEarly RefusalReason = "not_yet_valid"
	RefusedCA       RefusalReason = "unknown_authority"
	RefusedUsage    RefusalReason = "usage"
	RefusedUnproven RefusalReason = "key_not_proven"
	refusedOther    RefusalReason = "other"
)

// RefusalReasons are all reasons.
var RefusalReasons = []RefusalReason{
	RefusedAbsent, RefusedSubject, RefusedExpired, RefusedTooEarly, RefusedCA, RefusedUsage,
	RefusedUnproven, refusedOther,
}

// clientRefusal is the error of a handshake that ended because of the client's certificate. It is
// for our log; the client gets an alert.
type clientRefusal struct {
	reason RefusalReason
	detail string
}

// Error is for our log, not for the client.
func (e *clientRefusal) Error() string {
	return fmt.Sprintf("client certificate refused (%s): %s", e.reason, e.detail)
}

// verify checks a client certificate as tls.Config.VerifyConnection. crypto/tls calls it in every
// handshake, also when a session is resumed. So a session ticket does not let in a client whose
// certificate is no longer accepted.
func (c *ClientRule) verify(state tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return &clientRefusal{RefusedAbsent, "there is none"}
	}
	leaf := state.PeerCertificates[0]
	intermediates := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		intermediates.AddCert(certificate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: intermediates, KeyUsages: c.usages, CurrentTime: now,
	})
	if err != nil {
		return &clientRefusal{reasonOf(err, now), fmt.Sprintf("%.300s", err)}
	}
	// Subject.CommonName is the last of several, so a certificate with two is ambiguous.
	if !slices.Contains(c.Subjects, leaf.Subject.CommonName) || commonNames(leaf.Subject) != 1 {
		detail := fmt.Sprintf("subject %.300q is not among those configured", leaf.Subject)
		return &clientRefusal{RefusedSubject, detail}
	}
	return nil
}

// CommonNameOID identifies a common name in a subject (RFC 5280 appendix A.1).
var CommonNameOID = asn1.ObjectIdentifier{2, 5, 4, 3}

func commonNames(subject pkix.Name) int {
	count := 0
	for _, attribute := range subject.Names {
		if attribute.Type.Equal(CommonNameOID) {
			count++
		}
	}
	return count
}

func reasonOf(err error, now time.Time) RefusalReason {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return RefusedCA
	case !errors.As(err, &invalid):
		return refusedOther
	case invalid.Reason == x509.Expired && now.Before(invalid.Cert.NotBefore):
		return RefusedTooEarly
	case invalid.Reason == x509.Expired:
		return RefusedExpired
	case invalid.Reason == x509.IncompatibleUsage:
		return RefusedUsage
	}
	return refusedOther
}
