package certs

// The names that a certificate is for.

import (
	"crypto/x509"
	"strings"
)

// NamesOf is what a certificate is for: its DNS names and addresses, its CN if it has none.
func NamesOf(leaf *x509.Certificate) string {
	names := AllNames(leaf)
	if len(names) == 0 {
		return "CN " + leaf.Subject.CommonName
	}
	return strings.Join(names, " ")
}

// AllNames are the DNS names and addresses of a certificate.
func AllNames(leaf *x509.Certificate) []string {
	names := append([]string{}, leaf.DNSNames...)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	return names
}
