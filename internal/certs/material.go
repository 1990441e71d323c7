package certs

// The certificates of a configuration, as one immutable value: which there are, which serves what
// name, and who may connect on which port (requirements C1, A7). They are checked here.

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// ServerCertificate is a certificate of the proxy, with its place in the configuration.
type ServerCertificate struct {
	tls.Certificate
	path     string // key of the configuration, such as key_stores[1].certificates[0]
	file     string
	KeyStore string // "" for those of server.tls
}

// Material is everything that a configuration says about TLS, read and checked. It is immutable.
type Material struct {
	source *schema.Source
	// the default first, then in the order of the configuration
	Certificates []*ServerCertificate
	// by DNS name in lower case, *.x included; those of key stores first
	names map[string][]*ServerCertificate
	// by host name of a key store: what may be served for it; empty: the default only
	hosts     map[string][]*ServerCertificate
	clientCAs []*clientCA // of all rules, each certificate once
	// by address of the listener; nil: no client certificate is asked for
	Rules map[string]*ClientRule
}

// Prepare reads every certificate, key and CA bundle that c names, and checks them without using
// the network. The error is a *schema.Error. A certificate that is not valid now is not an error
// here: see Holder.Refuses and CheckValidity.
func Prepare(c *config.Config) (*Material, []schema.Warning, error) {
	r := schema.NewReport(c.Source)
	m := Collect(r, c, ReadCertificate)
	err := r.Err()
	if err != nil {
		return nil, nil, err
	}
	return m, r.Warnings, nil
}

// Collect is Prepare for a report that may already have problems. The Material holds what could be
// read. Certificates with files that the report names as failed are left out.
func Collect(
	r *schema.Report,
	c *config.Config,
	read func(config.CertificateFiles) (tls.Certificate, error),
) *Material {
	m := &Material{
		source: c.Source, names: map[string][]*ServerCertificate{},
		hosts: map[string][]*ServerCertificate{}, Rules: map[string]*ClientRule{},
	}
	places := c.CertificatePlaces()
	for _, place := range places {
		if r.Failed[place.Path+".certificate"] || r.Failed[place.Path+".key"] {
			continue
		}
		certificate, err := read(place.CertificateFiles)
		if err != nil {
			r.Errorf(place.Path, "%v", err)
			continue
		}
		with := &ServerCertificate{
			Certificate: certificate, path: place.Path, file: place.Certificate,
			KeyStore: place.KeyStore,
		}
		checkCertificate(r, with)
		m.Certificates = append(m.Certificates, with)
	}
	for _, place := range c.ListenerPlaces() {
		if _, repeated := m.Rules[place.Listen]; repeated {
			r.Errorf(place.Address, "is the address of another port, too; each has its own rule "+
				"about client certificates")
			continue
		}
		rule := newClientRule(r, place.Path+".client_certificates", place.ClientCertificates)
		m.Rules[place.Listen] = rule
		m.noteCAs(rule)
	}
	m.indexNames(r)
	if len(m.Certificates) == len(places) { // or else the one for a host may be among the others
		m.indexHosts(r, c.KeyStores)
	}
	return m
}

// noteCAs adds the CAs of a rule, which may be nil.
func (m *Material) noteCAs(rule *ClientRule) {
	if rule == nil {
		return
	}
	for _, ca := range rule.issuers {
		known := func(other *clientCA) bool { return other.Equal(ca.Certificate) }
		if !slices.ContainsFunc(m.clientCAs, known) {
			m.clientCAs = append(m.clientCAs, ca)
		}
	}
}

// Standard is the certificate for names that no other has.
func (m *Material) Standard() *ServerCertificate { return m.Certificates[0] }

// indexNames indexes the certificates by name. It refuses a name in certificates of two key stores,
// because either of them could be served.
func (m *Material) indexNames(r *schema.Report) {
	for _, ofKeyStores := range []bool{true, false} {
		for _, c := range m.Certificates {
			if (c.KeyStore != "") != ofKeyStores {
				continue
			}
			for _, name := range c.names() {
				first := slices.IndexFunc(
					m.names[name],
					func(other *ServerCertificate) bool {
						return ofKeyStores && other.KeyStore != c.KeyStore
					},
				)
				if first >= 0 {
					r.Errorf(c.path, "%s is a name of this certificate of key store %q and of "+
						"one of key store %q (%s); a certificate that both may use belongs in "+
						"server.tls.more",
						name, c.KeyStore, m.names[name][first].KeyStore, m.names[name][first].file)
					continue
				}
				m.names[name] = append(m.names[name], c)
			}
		}
	}
}

// indexHosts notes which certificates may be served for each host name of a key store: its own and
// those of the server, but none of another key store.
func (m *Material) indexHosts(r *schema.Report, keyStores []config.KeyStore) {
	owners := map[string][]string{}
	for _, k := range keyStores {
		for _, host := range k.Hosts {
			owners[plainHost(host)] = append(owners[plainHost(host)], k.Name)
		}
	}
	for host, names := range owners {
		m.hosts[host] = slices.DeleteFunc(m.named(host), func(c *ServerCertificate) bool {
			return c.KeyStore != "" && !slices.Contains(names, c.KeyStore)
		})
	}
	for i, k := range keyStores {
		for j, host := range k.Hosts {
			m.warnHost(r, fmt.Sprintf("key_stores[%d].hosts[%d]", i, j), plainHost(host))
		}
	}
	for _, c := range m.Certificates {
		for _, name := range c.names() {
			if others := owners[name]; c.KeyStore != "" && others != nil &&
				!slices.Contains(others, c.KeyStore) {
				r.Warnf(c.path, "%s has the name %s, which is a host of key store %q: it is not "+
					"served for it", c.file, name, others[0])
			}
		}
	}
}

// warnHost warns of a host name for which clients will not accept the certificate.
func (m *Material) warnHost(r *schema.Report, at, host string) {
	if len(m.hosts[host]) > 0 {
		return
	}
	err := m.Standard().Leaf.VerifyHostname(host)
	if err != nil {
		r.Warnf(
			at, "no certificate is for %s; clients get %s, which is for %s", host,
			m.Standard().file, NamesOf(m.Standard().Leaf),
		)
	}
}

// named returns the certificates for a name: first those that have it, then those with a wildcard
// for its first label.
func (m *Material) named(name string) []*ServerCertificate {
	_, domain, found := strings.Cut(name, ".")
	if !found {
		return slices.Clone(m.names[name])
	}
	return slices.Concat(m.names[name], m.names["*."+domain])
}

// Choose chooses a certificate, as tls.Config.GetCertificate: of those for the name that the client
// asks for (SNI), the first that the client supports, preferably one that is valid now.
func (m *Material) Choose(hello *tls.ClientHelloInfo, now time.Time) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	candidates, isHost := m.hosts[name]
	if !isHost {
		candidates = m.named(name)
	}
	var chosen *ServerCertificate
	for _, c := range candidates {
		err := hello.SupportsCertificate(&c.Certificate)
		if err != nil {
			continue
		}
		if isValid(c.Leaf, now) {
			return &c.Certificate
		}
		if chosen == nil {
			chosen = c
		}
	}
	switch {
	case chosen != nil:
		return &chosen.Certificate
	case len(candidates) > 0:
		return &candidates[0].Certificate // the handshake says what is missing
	}
	return &m.Standard().Certificate
}

// names returns the DNS names in lower case, each once.
func (c *ServerCertificate) names() []string {
	var names []string
	for _, name := range c.Leaf.DNSNames {
		names = append(names, plainHost(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// plainHost returns a host name in the form in which names are compared.
func plainHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func isValid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}
