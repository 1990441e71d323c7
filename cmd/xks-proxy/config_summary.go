package main

// What a good configuration would serve, in a few lines for eyes.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/text"
	"xks-proxy/pkg/xks"
)

func summarize(p *text.Page, k *configCheck) {
	c := k.config
	p.Facts(summaryFacts(k))
	p.WriteString("\n")
	t := text.NewTable("KEY STORE", "PATH", "REGIONS", "<CREDENTIALS", "KEYS", "POLICIES", "HSM GROUP")
	for _, k := range c.KeyStores[:min(len(c.KeyStores), maxStoresSummed)] {
		t.Row(k.Name, xks.URIPath(k.PathPrefix), orAny(k.Regions), strconv.Itoa(len(k.Credentials)),
			strings.Join(k.Keys.Labels, " "), describePolicies(c, k), k.HSMGroup)
	}
	p.Table(t)
	if more := len(c.KeyStores) - maxStoresSummed; more > 0 {
		p.Printf("  and %d more; config show prints them all\n", more)
	}
	p.WriteString("\n")
	t = text.NewTable("HSM GROUP", "HSM", "<PRIORITY", "PROFILE", "TOKEN", "MODULE")
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			h := c.hsm(m.HSM)
			t.Row(g.Name, m.HSM, strconv.Itoa(m.Priority), h.Profile, h.tokenText(), h.Module)
		}
	}
	p.Table(t)
}

// summaryFacts are what takes a line each.
func summaryFacts(k *configCheck) [][2]string {
	c, m := k.config, k.material
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
	if k.options.noSecrets {
		read = "not read (--no-secrets)"
	}
	var facts [][2]string
	fact := func(name, value string) { facts = append(facts, [2]string{name, value}) }
	for _, place := range c.listenerPlaces() {
		fact("listens on", "https://"+place.Listen+
			describeClients(place.ClientCertificates)+describeSources(place.ProxyProtocol))
	}
	fact("health", health)
	fact("metrics", metrics)
	fact("admin socket", admin)
	for _, certificate := range m.certificates {
		until := certificate.Leaf.NotAfter.UTC().Format(time.DateOnly)
		fact("certificate", namesOf(certificate.Leaf)+", until "+until+describeOwner(certificate))
	}
	fact("secrets", read)
	if k.options.asUser != nil {
		fact("user", k.options.asUser.Name+" can use all files")
	}
	for _, what := range k.notChecked {
		fact("not checked", what)
	}
	fact("key stores", describeStores(c))
	return facts
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
