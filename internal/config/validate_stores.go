package config

// Checks of the key stores, and the figures the other checks compare with.

import (
	"fmt"
	"slices"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

const (
	// KMSPatience is how long AWS KMS waits for an answer (requirement U13).
	KMSPatience  = 250 * time.Millisecond
	balancerIdle = 350 * time.Second // requirement U15
	// bytes; requestMetadata and JSON around the data, ARNs of 2048 included (U9)
	metadataSize = 8 << 10
	maxWord      = 256 // bytes of owner and the like
	// bytes of a pattern on labels; a label has less than 200 (U3)
	maxPattern = 512
)

func validateKeyStores(r *schema.Report, c *Config) {
	if len(c.KeyStores) == 0 && !r.Failed[DirectoryKey] {
		r.Errorf(schema.KeyStoresKey, "is missing, and %s; write a key store here or a file into "+
			"key_store_directory (configs/key_stores.d has an example)", describeDirectory(r))
	}
	testKeys := map[string]string{}
	groups := make([]string, 0, len(c.HSMGroups))
	for _, g := range c.HSMGroups {
		groups = append(groups, g.Name)
		testKeys[g.Name] = g.TestKey.Label
	}
	unique := newUniqueness(r, c)
	for i, k := range c.KeyStores {
		at := schema.StoreKey(i, "")
		unique.name(i)
		unique.prefix(i)
		unique.credentials(i)
		validateReference(r, at+".hsm_group", "HSM group", k.HSMGroup, groups)
		validateRegions(r, at+".regions", k.Regions)
		validateHosts(r, at+".hosts", k.Hosts)
		validateLabels(r, at+".keys.labels", k.Keys.Labels, testKeys[k.HSMGroup])
		validateKeys(r, at+".keys", k.Keys)
		validateWords(r, at, k)
		validatePolicy(r, at+".policy", k.Policy)
		warnQuota(r, at+".quota", k.Quota, c.Server)
		if k.LegacyFormat != "" {
			r.Errorf(at+".legacy_format", "must be empty; no legacy format is supported yet")
		}
	}
	warnEverything(r, c)
	validateIsolation(r, c)
}

// describeDirectory says why the directory gives no key store.
func describeDirectory(r *schema.Report) string {
	switch {
	case r.Directory == "":
		return "there is no key store directory"
	case !r.Found:
		return r.Directory + " does not exist"
	default:
		return r.Directory + " holds no *.yaml file"
	}
}

// validateWords checks the lengths of the texts that appear in log lines and in policies.
func validateWords(r *schema.Report, at string, k KeyStore) {
	for _, word := range []struct{ key, value string }{
		{"owner", k.Owner}, {"application", k.Application}, {"environment", k.Environment},
	} {
		if len(word.value) > maxWord {
			r.Errorf(schema.JoinPath(at, word.key), "is longer than %d bytes", maxWord)
		}
	}
}

// warnEverything warns of a key store that reaches every key of the others of the same owner.
// validateIsolation reports those of different owners.
func warnEverything(r *schema.Report, c *Config) {
	type tenant struct{ group, owner string }
	everything := map[tenant]int{} // the key store that reaches all keys
	for i, k := range c.KeyStores {
		if k.HSMGroup != "" && slices.Contains(k.Keys.Labels, "*") &&
			k.Keys.Label == xks.KeyIDPlaceholder {
			everything[tenant{k.HSMGroup, k.Owner}] = i
		}
	}
	for i, k := range c.KeyStores {
		other, shared := everything[tenant{k.HSMGroup, k.Owner}]
		if shared && other != i {
			r.Warnf(schema.StoreKey(i, "hsm_group"), "%s reaches every key of this HSM group, "+
				"those of this key store too; give each its own keys.labels",
				c.other(i, other, "keys.labels"))
		}
	}
}

// warnQuota warns of limits that have no effect.
func warnQuota(r *schema.Report, at string, q Quota, s Server) {
	if q.Burst > 0 && q.Rate == 0 {
		r.Warnf(at+".burst", "does nothing without requests_per_second")
	}
	if q.KeyBurst > 0 && q.KeyRate == 0 {
		r.Warnf(at+".key_burst", "does nothing without key_requests_per_second")
	}
	if q.Rate > 0 && q.KeyRate > q.Rate {
		r.Warnf(at+".key_requests_per_second", "is above requests_per_second (%d), which all "+
			"keys share", q.Rate)
	}
	if q.MaxInFlight > s.MaxInFlight {
		r.Warnf(at+".max_in_flight", "is above server.max_in_flight (%d), which all key stores "+
			"share", s.MaxInFlight)
	}
}

func validateHosts(r *schema.Report, at string, hosts []string) {
	for i, host := range hosts {
		key := fmt.Sprintf("%s[%d]", at, i)
		err := xks.CheckHost(host)
		switch {
		case err != nil:
			r.Errorf(key, "%v", err)
		case slices.Index(hosts, host) < i:
			r.Errorf(key, "%s is listed twice", host)
		}
	}
}

func validateRegions(r *schema.Report, at string, regions []string) {
	for i, region := range regions {
		key := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !isRegion(region):
			r.Errorf(key, "%q is not an AWS region, such as eu-central-1", region)
		case slices.Index(regions, region) < i:
			r.Errorf(key, "%s is listed twice", region)
		}
	}
}

// isRegion reports whether a text looks like an AWS region, such as eu-central-1.
func isRegion(text string) bool { return regionPattern.MatchString(text) && sigv4.IsRegion(text) }

func validateKeys(r *schema.Report, at string, keys Keys) {
	if !xks.IsLabelTemplate(keys.Label) {
		r.Errorf(at+".label", "must contain %s exactly once", xks.KeyIDPlaceholder)
	}
	for i, id := range keys.Disabled {
		key := fmt.Sprintf("%s.disabled[%d]", at, i)
		switch {
		case !xks.IsKeyID(id):
			r.Errorf(key, "is not an external key id: %s", xks.KeyIDForm)
		case slices.Index(keys.Disabled, id) < i:
			r.Errorf(key, "%s is listed twice", id)
		}
	}
}

// base64Size is the length of n bytes in standard Base64 (requirement U9).
func base64Size(n int) int { return (n + 2) / 3 * 4 }
