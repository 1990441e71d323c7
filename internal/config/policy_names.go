package config

// Policies against the configuration: the key stores and keys that they name are there, and every
// key store with policies can have a request permitted.

import (
	"fmt"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// PolicyNames returns the names that policies can use. It looks at the configuration only, because
// an HSM may get a key later.
func PolicyNames(c *Config) authz.Names {
	names := authz.Names{Key: c.whyNoKey}
	for _, k := range c.KeyStores {
		names.KeyStores = append(names.KeyStores, k.Name)
		if k.Owner != "" {
			names.Owners = append(names.Owners, k.Owner)
		}
	}
	slices.Sort(names.Owners)
	names.Owners = slices.Compact(names.Owners)
	return names
}

// whyNoKey says why a key store cannot have a key with that external key id; "" if it can.
func (c *Config) whyNoKey(keyStore, id string) string {
	i := slices.IndexFunc(c.KeyStores, func(k KeyStore) bool { return k.Name == keyStore })
	if i < 0 {
		return ""
	}
	k := c.KeyStores[i]
	label := strings.Replace(k.Keys.Label, xks.KeyIDPlaceholder, id, 1)
	_, reached := xks.KeyStoreConfig{Labels: k.Keys.Labels, Label: k.Keys.Label}.KeyID(label)
	switch {
	case !reached && slices.ContainsFunc(k.Keys.Labels, isPattern):
		return fmt.Sprintf("its label %q matches none of keys.labels, which are %s",
			label, shortList(k.Keys.Labels))
	case !reached:
		hint := "which has " + shortList(k.Keys.Labels)
		if meant := text.Near(label, k.Keys.Labels); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		return fmt.Sprintf("its label %q is not in keys.labels; %s", label, hint)
	case c.isTestKey(k.HSMGroup, label):
		return fmt.Sprintf("%q is the proxy's own test key (test_key of the HSM group %s)",
			label, k.HSMGroup)
	}
	return ""
}

func (c *Config) isTestKey(group, label string) bool {
	return slices.ContainsFunc(c.HSMGroups, func(g Group) bool {
		return g.Name == group && g.TestKey.Label == label
	})
}

func isPattern(label string) bool { return strings.ContainsAny(label, `*?[\`) }

const listShown = 5

// shortList names the first few of a list.
func shortList(all []string) string {
	text := strings.Join(all[:min(len(all), listShown)], ", ")
	if more := len(all) - listShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// CheckPolicyNames reports names that the configuration does not have, at their places in the
// policy files. It returns false if there is an error.
func CheckPolicyNames(
	r *schema.Report,
	names authz.Names,
	at string,
	policies *authz.Policies,
) bool {
	faults, doubts := policies.CheckNames(names)
	for _, one := range faults {
		r.Problems = append(r.Problems, r.PolicyProblem(at, one))
	}
	for _, one := range doubts {
		r.Warnings = append(r.Warnings, schema.Warning(r.PolicyProblem(at, one)))
	}
	return len(faults) == 0
}

// CheckPolicyPermits reports a key store for which the policies permit no request at all, as after
// a spelling mistake.
func CheckPolicyPermits(r *schema.Report, at, keyStore string, policies *authz.Policies) {
	if !policies.Permits(keyStore) {
		r.Errorf(at, "in the key store %s %s", keyStore, authz.NothingPermitted)
	}
}
