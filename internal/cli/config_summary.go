package cli

// What a good configuration would serve, in a few lines for eyes.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/check"
	"xks-proxy/internal/config"
	"xks-proxy/internal/server"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/xks"
)

func summarize(p *text.Page, k *check.Result) {
	c := k.Config
	p.Facts(summaryFacts(k))
	p.WriteString("\n")
	t := text.NewTable(
		"KEY STORE",
		"PATH",
		"REGIONS",
		"<CREDENTIALS",
		"KEYS",
		"POLICIES",
		"HSM GROUP",
	)
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
			h := c.HSM(m.HSM)
			t.Row(g.Name, m.HSM, strconv.Itoa(m.Priority), h.Profile, h.TokenText(), h.Module)
		}
	}
	p.Table(t)
}

// summaryFacts are what takes a line each.
func summaryFacts(k *check.Result) [][2]string {
	c, m := k.Config, k.Material
	health := "none"
	if c.Health.Listen != "" {
		health = "http://" + c.Health.Listen + "/healthz/ready"
	}
	metrics, admin := "none", "none"
	switch {
	case c.Health.Metrics && c.Health.Listen != "":
		metrics = "http://" + c.Health.Listen + server.MetricsPath
	case c.Metrics.WebConfig != "":
		metrics = "https://" + c.Metrics.Listen + server.MetricsPath
	case c.Metrics.Listen != "":
		metrics = "http://" + c.Metrics.Listen + server.MetricsPath
	}
	if c.Admin.Socket != "" {
		admin = c.Admin.Socket
	}
	read := "all read"
	if k.Options.NoSecrets {
		read = "not read (--no-secrets)"
	}
	var facts [][2]string
	fact := func(name, value string) { facts = append(facts, [2]string{name, value}) }
	for _, place := range c.ListenerPlaces() {
		fact("listens on", "https://"+place.Listen+
			describeClients(place.ClientCertificates)+config.DescribeSources(place.ProxyProtocol))
	}
	fact("health", health)
	fact("metrics", metrics)
	fact("admin socket", admin)
	for _, certificate := range m.Certificates {
		until := certificate.Leaf.NotAfter.UTC().Format(time.DateOnly)
		fact(
			"certificate",
			certs.NamesOf(certificate.Leaf)+", until "+until+describeOwner(certificate),
		)
	}
	fact("secrets", read)
	if k.Options.AsUser != nil {
		fact("user", k.Options.AsUser.Name+" can use all files")
	}
	for _, what := range k.NotChecked {
		fact("not checked", what)
	}
	fact("key stores", describeStores(c))
	return facts
}

// maxStoresSummed bounds the table of key stores.
const maxStoresSummed = 50

// describeStores counts key stores, and says where they are from if there is a directory.
func describeStores(c *config.Config) string {
	if len(c.Source.Stores) == 0 {
		return strconv.Itoa(len(c.KeyStores))
	}
	return fmt.Sprintf(
		"%d, %d of them in %s",
		len(c.KeyStores),
		len(c.Source.Stores),
		c.KeyStoreDirectory,
	)
}

func describePolicies(c *config.Config, k config.KeyStore) string {
	if p := c.Policies[k.Name]; p != nil {
		return fmt.Sprintf("%d, %s", p.Len(), k.Policy.Mode)
	}
	return "none"
}

func orAny(regions []string) string {
	if len(regions) == 0 {
		return "any"
	}
	return strings.Join(regions, " ")
}

func describeClients(c config.ClientCertificates) string {
	if c.CA == "" {
		return ""
	}
	return ", client certificates of " + strings.Join(c.Subjects, " ") + " only"
}

func describeOwner(c *certs.ServerCertificate) string {
	if c.KeyStore == "" {
		return ""
	}
	return ", key store " + c.KeyStore
}
