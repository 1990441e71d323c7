package certs

// The names that a certificate is for.

import (
	"crypto/x509"
	"strings"
)

// NamesOf returns the DNS names and addresses of a certificate on one line, or its CN if it has
// none.
func NamesOf(leaf *x509.Certificate) string {
	names := AllNames(leaf)
	if len(names) == 0 {
		return "CN " + leaf.Subject.CommonName
	}
	return strings.Join(names, " ")
}

// AllNames returns the DNS names and addresses of a certificate.
func AllNames(leaf *x509.Certificate) []string {
	names := append([]string{}, leaf.DNSNames...)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	return names
}
