package request

// Where a request to one's own key store goes, and who signs it, as the proxy's configuration says
// it. The only secret that is read is the one access key.

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
)

// servedAs is what the proxy shows for a key store.
type servedAs struct {
	host  string   // a name or an address that a certificate is for
	files []string // of the certificates that may be shown
}

// certificateOf reads the certificates that may be shown for a key store, without their keys.
func certificateOf(c *config.Config, store config.KeyStore) (servedAs, error) {
	var s servedAs
	var problem error
	for _, place := range c.CertificatePlaces() {
		if place.KeyStore != "" && place.KeyStore != store.Name {
			continue
		}
		leaf, err := readLeaf(place.Certificate)
		if err != nil {
			problem = fmt.Errorf("%s: %w", place.Path, err)
			continue
		}
		s.files = append(s.files, place.Certificate)
		if s.host == "" || place.KeyStore != "" { // its own counts more
			s.host = concreteName(leaf)
		}
	}
	if len(store.Hosts) > 0 {
		s.host = store.Hosts[0]
	}
	if len(s.files) == 0 {
		return s, problem
	}
	return s, nil
}

// readLeaf reads the first certificate of a PEM file.
func readLeaf(path string) (*x509.Certificate, error) {
	data, err := guarded.ReadLimited(path, schema.MaxConfigSize)
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be read: %w", err)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, fmt.Errorf("%s holds no PEM certificate", path)
}

// concreteName is a name that a certificate is for; of a wildcard, one that it covers.
func concreteName(leaf *x509.Certificate) string {
	for _, name := range certs.AllNames(leaf) {
		return strings.Replace(name, "*", "xks", 1)
	}
	return leaf.Subject.CommonName
}

// localEndpoint is the first port that serves anybody on this machine: its URL under a name that
// the certificate has, and the address where it listens.
func localEndpoint(c *config.Config, name string) (string, string, error) {
	for _, place := range c.ListenerPlaces() {
		host, port, err := net.SplitHostPort(place.Listen)
		if err != nil || port == "0" {
			return "", "", fmt.Errorf("%s is %s, which does not say where the proxy listens: "+
				"give --endpoint URL", place.Address, place.Listen)
		}
		host = reachable(host)
		if place.ClientCertificates.CA != "" || fromLoadBalancer(place.ProxyProtocol, host) {
			continue
		}
		if name == "" {
			name = host
		}
		return "https://" + net.JoinHostPort(name, port), net.JoinHostPort(host, port), nil
	}
	return "", "", errors.New("every port of the proxy wants AWS KMS's client certificate, which " +
		"nobody else has, or a load balancer's header; for a test, add an entry to " +
		"server.listeners on 127.0.0.1 without client_certificates and proxy_protocol")
}

// reachable is the address on this machine of a listener that may be on all addresses.
func reachable(host string) string {
	address, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && address.Is4() && address.IsUnspecified():
		return "127.0.0.1"
	case err == nil && address.IsUnspecified():
		return "::1"
	}
	return host
}

// fromLoadBalancer reports whether a connection from this machine is taken for a load balancer's.
func fromLoadBalancer(p config.ProxyProtocol, host string) bool {
	address, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(p.Sources(), func(source netip.Prefix) bool {
		return source.Contains(address)
	})
}
