package main

// The names that a certificate is for.

import (
	"crypto/x509"
	"strings"
)

// namesOf is what a certificate is for: its DNS names and addresses, its CN if it has none.
func namesOf(leaf *x509.Certificate) string {
	names := allNames(leaf)
	if len(names) == 0 {
		return "CN " + leaf.Subject.CommonName
	}
	return strings.Join(names, " ")
}

// allNames are the DNS names and addresses of a certificate.
func allNames(leaf *x509.Certificate) []string {
	names := append([]string{}, leaf.DNSNames...)
	for _, address := range leaf.IPAddresses {
		names = append(names, address.String())
	}
	return names
}
