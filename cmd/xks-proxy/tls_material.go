package main

// The certificates in use, as one immutable whole that a reload replaces: which there are, which
// is for what name, and who may connect on which port (requirements C1, A7). What is wrong with them is found out here.

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// serverCertificate is a certificate that the proxy serves under.
type serverCertificate struct {
	tls.Certificate
	path     string // key of the configuration, such as key_stores[1].certificates[0]
	file     string
	keyStore string // "" for those of server.tls
}

// tlsMaterial is all that a configuration says about TLS, read and checked. It is never changed.
type tlsMaterial struct {
	source       *source
	certificates []*serverCertificate            // the default first, then in the order of the configuration
	names        map[string][]*serverCertificate // by DNS name in small letters, *.x included; those of key stores first
	hosts        map[string][]*serverCertificate // by host name of a key store: what may be served for it; empty: the default only
	clientCAs    []*clientCA                     // of all rules, each certificate once
	rules        map[string]*clientRule          // by address of the listener; nil: no client certificate is asked for
}

// prepareTLS reads every certificate, key and CA bundle that c names, and checks all that can be
// seen without a network. The error is a *configError. A certificate that has expired, or is not
// valid yet, is none: see tlsHolder.refuses and certificateStatus.
func prepareTLS(c *config) (*tlsMaterial, []warning, error) {
	r := newReport(c.source)
	m := collectTLS(r, c, readCertificate)
	err := r.err()
	if err != nil {
		return nil, nil, err
	}
	return m, r.warnings, nil
}

// collectTLS is prepareTLS for a report that has more in it: it holds what could be read. Certificates
// whose files are known to be bad are left out.
func collectTLS(r *report, c *config, read func(certificateConfig) (tls.Certificate, error)) *tlsMaterial {
	m := &tlsMaterial{
		source: c.source, names: map[string][]*serverCertificate{}, hosts: map[string][]*serverCertificate{}, rules: map[string]*clientRule{},
	}
	places := c.certificatePlaces()
	for _, place := range places {
		if r.failed[place.path+".certificate"] || r.failed[place.path+".key"] {
			continue
		}
		certificate, err := read(place.certificateConfig)
		if err != nil {
			r.errorf(place.path, "%v", err)
			continue
		}
		with := &serverCertificate{Certificate: certificate, path: place.path, file: place.Certificate, keyStore: place.keyStore}
		checkCertificate(r, with)
		m.certificates = append(m.certificates, with)
	}
	for _, place := range c.listenerPlaces() {
		if _, repeated := m.rules[place.Listen]; repeated {
			r.errorf(place.address, "is the address of another port, too; each has its own rule about client certificates")
			continue
		}
		rule := newClientRule(r, place.path+".client_certificates", place.ClientCertificates)
		m.rules[place.Listen] = rule
		m.noteCAs(rule)
	}
	m.indexNames(r)
	if len(m.certificates) == len(places) { // or else the one for a host may be among the others
		m.indexHosts(r, c.KeyStores)
	}
	return m
}

// noteCAs keeps the CAs of a rule, which may be nil.
func (m *tlsMaterial) noteCAs(rule *clientRule) {
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

// standard is the certificate for names that no other has.
func (m *tlsMaterial) standard() *serverCertificate { return m.certificates[0] }

// indexNames refuses two key stores with one name: which certificate a client got would be chance.
func (m *tlsMaterial) indexNames(r *report) {
	for _, ofKeyStores := range []bool{true, false} {
		for _, c := range m.certificates {
			if (c.keyStore != "") != ofKeyStores {
				continue
			}
			for _, name := range c.names() {
				first := slices.IndexFunc(m.names[name], func(other *serverCertificate) bool { return ofKeyStores && other.keyStore != c.keyStore })
				if first >= 0 {
					r.errorf(c.path, "%s is a name of this certificate of key store %q and of one of key store %q (%s); a certificate that both may use belongs in server.tls.more",
						name, c.keyStore, m.names[name][first].keyStore, m.names[name][first].file)
					continue
				}
				m.names[name] = append(m.names[name], c)
			}
		}
	}
}

// indexHosts says what may be served for each host name of a key store: certificates of its own
// and of the server, and none of another key store.
func (m *tlsMaterial) indexHosts(r *report, keyStores []keyStoreConfig) {
	owners := map[string][]string{}
	for _, k := range keyStores {
		for _, host := range k.Hosts {
			owners[plainHost(host)] = append(owners[plainHost(host)], k.Name)
		}
	}
	for host, names := range owners {
		m.hosts[host] = slices.DeleteFunc(m.named(host), func(c *serverCertificate) bool {
			return c.keyStore != "" && !slices.Contains(names, c.keyStore)
		})
	}
	for i, k := range keyStores {
		for j, host := range k.Hosts {
			m.warnHost(r, fmt.Sprintf("key_stores[%d].hosts[%d]", i, j), plainHost(host))
		}
	}
	for _, c := range m.certificates {
		for _, name := range c.names() {
			if others := owners[name]; c.keyStore != "" && others != nil && !slices.Contains(others, c.keyStore) {
				r.warnf(c.path, "%s has the name %s, which is a host of key store %q: it is not served for it", c.file, name, others[0])
			}
		}
	}
}

// warnHost tells of a host name that clients will not accept the certificate for.
func (m *tlsMaterial) warnHost(r *report, at, host string) {
	if len(m.hosts[host]) > 0 {
		return
	}
	err := m.standard().Leaf.VerifyHostname(host)
	if err != nil {
		r.warnf(at, "no certificate is for %s; clients get %s, which is for %s", host, m.standard().file, namesOf(m.standard().Leaf))
	}
}

// named are the certificates for a name: first those that have it, then those with a wildcard for its first label.
func (m *tlsMaterial) named(name string) []*serverCertificate {
	_, domain, found := strings.Cut(name, ".")
	if !found {
		return slices.Clone(m.names[name])
	}
	return slices.Concat(m.names[name], m.names["*."+domain])
}

// choose is for tls.Config.GetCertificate: of the certificates for the name that the client asks for
// (SNI), the first that it can verify, preferably one that is valid now.
func (m *tlsMaterial) choose(hello *tls.ClientHelloInfo, now time.Time) *tls.Certificate {
	name := strings.ToLower(hello.ServerName)
	candidates, isHost := m.hosts[name]
	if !isHost {
		candidates = m.named(name)
	}
	var chosen *serverCertificate
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
	return &m.standard().Certificate
}

// names are the DNS names in small letters, each once.
func (c *serverCertificate) names() []string {
	var names []string
	for _, name := range c.Leaf.DNSNames {
		names = append(names, plainHost(name))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// plainHost is a host name as names are compared.
func plainHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func isValid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}
