package main

// What a good configuration would serve, in a few lines for eyes.

import (
	"crypto/x509"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"xks-proxy/pkg/xks"
)

func summarize(w io.Writer, c *config, m *tlsMaterial, secretsRead bool) error {
	health := "none"
	if c.Health.Listen != "" {
		health = "http://" + c.Health.Listen + "/healthz/ready"
	}
	metrics, admin := "none", "none"
	switch {
	case c.metricsOnHealth() && c.Health.Listen != "":
		metrics = "http://" + c.Health.Listen + metricsPath
	case c.Metrics.WebConfig != "":
		metrics = "https://" + c.Metrics.Listen + metricsPath
	case c.Metrics.Listen != "":
		metrics = "http://" + c.Metrics.Listen + metricsPath
	}
	if c.Admin.Socket != "" {
		admin = c.Admin.Socket
	}
	read := "all read"
	if !secretsRead {
		read = "not read (--no-secrets)"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, place := range c.listenerPlaces() {
		fmt.Fprintf(t, "listens on\thttps://%s%s%s\n", place.Listen,
			describeClients(place.ClientCertificates), describeSources(place.ProxyProtocol))
	}
	fmt.Fprintf(t, "health\t%s\n", health)
	fmt.Fprintf(t, "metrics\t%s\n", metrics)
	fmt.Fprintf(t, "admin socket\t%s\n", admin)
	for _, certificate := range m.certificates {
		fmt.Fprintf(t, "certificate\t%s, until %s%s\n", namesOf(certificate.Leaf), certificate.Leaf.NotAfter.UTC().Format(time.DateOnly), describeOwner(certificate))
	}
	fmt.Fprintf(t, "secrets\t%s\n", read)
	fmt.Fprintf(t, "key stores\t%s\n", describeStores(c))
	fmt.Fprintf(t, "\nKEY STORE\tPATH\tREGIONS\tCREDENTIALS\tKEYS\tPOLICIES\tHSM GROUP\n")
	for _, k := range c.KeyStores[:min(len(c.KeyStores), maxStoresSummed)] {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", k.Name, xks.URIPath(k.PathPrefix), orAny(k.Regions), len(k.Credentials), strings.Join(k.Keys.Labels, " "), describePolicies(c, k), k.HSMGroup)
	}
	if more := len(c.KeyStores) - maxStoresSummed; more > 0 {
		fmt.Fprintf(t, "and %d more; config show prints them all\n", more)
	}
	fmt.Fprintf(t, "\nHSM GROUP\tHSM\tPRIORITY\tPROFILE\tTOKEN\tMODULE\n")
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			h := c.hsm(m.HSM)
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", g.Name, m.HSM, m.Priority, h.Profile, h.tokenText(), h.Module)
		}
	}
	return t.Flush()
}

// maxStoresSummed bounds the table of key stores.
const maxStoresSummed = 50

// describeStores counts key stores, and says where they are from if there is a directory.
func describeStores(c *config) string {
	if len(c.source.stores) == 0 {
		return strconv.Itoa(len(c.KeyStores))
	}
	return fmt.Sprintf("%d, %d of them in %s", len(c.KeyStores), len(c.source.stores), c.KeyStoreDirectory)
}

func describePolicies(c *config, k keyStoreConfig) string {
	if p := c.policies[k.Name]; p != nil {
		return fmt.Sprintf("%d, %s", p.Len(), k.Policy.Mode)
	}
	return "none"
}

// hsm finds an HSM that validate has seen.
func (c *config) hsm(name string) hsmConfig {
	for _, h := range c.HSMs {
		if h.Name == name {
			return h
		}
	}
	return hsmConfig{}
}

func orAny(regions []string) string {
	if len(regions) == 0 {
		return "any"
	}
	return strings.Join(regions, " ")
}

func describeClients(c clientCertificatesConfig) string {
	if c.CA == "" {
		return ""
	}
	return ", client certificates of " + strings.Join(c.Subjects, " ") + " only"
}

func describeOwner(c *serverCertificate) string {
	if c.keyStore == "" {
		return ""
	}
	return ", key store " + c.keyStore
}

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
