package main

// Checks of the key stores, and the figures the other checks compare with.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xks-proxy/pkg/xks"
)

const (
	kmsPatience    = 250 * time.Millisecond // requirement U13
	balancerIdle   = 350 * time.Second      // requirement U15
	metadataSize   = 8 << 10                // bytes; requestMetadata and JSON around the data, ARNs of 2048 included (U9)
	tokenLabelSize = 32                     // bytes; CK_TOKEN_INFO, PKCS#11 2.40 section 3.2
	maxOwner       = 256                    // bytes; it is in every log line of a key store with policies
	maxGroupSize   = 10                     // ekmFleetDetails of GetHealthStatus (H1)
)

func validateKeyStores(r *report, c *config) {
	testKeys := map[string]string{}
	groups := make([]string, 0, len(c.HSMGroups))
	for _, g := range c.HSMGroups {
		groups = append(groups, g.Name)
		testKeys[g.Name] = g.TestKey
	}
	names := map[string]int{}
	prefixes := map[string]int{}
	everything := map[string]int{} // HSM group -> the key store that reaches all its keys
	for i, k := range c.KeyStores {
		if slices.Contains(k.Keys.Labels, "*") {
			everything[k.HSMGroup] = i
		}
	}
	for i, k := range c.KeyStores {
		at := fmt.Sprintf("key_stores[%d]", i)
		validateName(r, names, i, "key_stores", k.Name)
		validatePrefix(r, prefixes, i, k.PathPrefix)
		validateReference(r, at+".hsm_group", "HSM group", k.HSMGroup, groups)
		validateRegions(r, at+".regions", k.Regions)
		validateCredentials(r, at+".credentials", k.Credentials)
		validateLabels(r, at+".keys.labels", k.Keys.Labels, testKeys[k.HSMGroup])
		validateKeys(r, at+".keys", k.Keys)
		if len(k.Owner) > maxOwner {
			r.errorf(at+".owner", "is longer than %d bytes", maxOwner)
		}
		validatePolicy(r, at+".policy", k.Policy)
		if other, shared := everything[k.HSMGroup]; shared && other != i {
			r.warnf(at+".hsm_group", "key_stores[%d] reaches every key of this HSM group, those of this key store too; give each its own keys.labels", other)
		}
		if k.LegacyFormat != "" {
			r.errorf(at+".legacy_format", "must be empty; no legacy format is supported yet")
		}
	}
}

// validatePrefix is requirement U1.
func validatePrefix(r *report, seen map[string]int, i int, prefix string) {
	at := fmt.Sprintf("key_stores[%d].path_prefix", i)
	uri := xks.URIPath(prefix)
	emptySegment := strings.Contains(uri, "//")
	if err := xks.CheckPathPrefix(prefix); err != nil && !emptySegment {
		r.errorf(at, "must be empty or begin with / and hold letters, digits, /, _ and - only, %d characters at most; AWS KMS accepts no other", xks.MaxPathPrefix)
		return
	}
	if first, repeated := seen[prefix]; repeated {
		r.errorf(at, "is the path prefix of key_stores[%d], too; each key store has its own", first)
		return
	}
	seen[prefix] = i
	if emptySegment {
		r.errorf(at, "makes the XksProxyUriPath %s; the proxy takes no path with an empty segment: end the prefix without /", uri)
	}
}

func validateRegions(r *report, at string, regions []string) {
	for i, region := range regions {
		key := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !regionPattern.MatchString(region):
			r.errorf(key, "%q is no AWS region, such as eu-central-1", region)
		case slices.Index(regions, region) < i:
			r.errorf(key, "%s is listed twice", region)
		}
	}
}

// validateCredentials is requirements A5 and A6. It quotes no access key id that is
// none: somebody may have swapped it with the secret.
func validateCredentials(r *report, at string, credentials []credentialConfig) {
	seen := map[string]int{}
	for i, c := range credentials {
		key := fmt.Sprintf("%s[%d].access_key_id", at, i)
		if !accessKeyIDPattern.MatchString(c.AccessKeyID) {
			r.errorf(key, "must be 20 to 30 characters of A-Z and 2-7 (not shown: it could be the secret)")
			continue
		}
		if first, repeated := seen[c.AccessKeyID]; repeated {
			r.errorf(key, "is the access key id of credentials[%d], too; each has its own", first)
			continue
		}
		seen[c.AccessKeyID] = i
	}
}

func validateKeys(r *report, at string, keys keysConfig) {
	if strings.Count(keys.Label, xks.KeyIDPlaceholder) != 1 {
		r.errorf(at+".label", "must contain %s exactly once", xks.KeyIDPlaceholder)
	}
	for i, id := range keys.Disabled {
		key := fmt.Sprintf("%s.disabled[%d]", at, i)
		switch {
		case !keyIDPattern.MatchString(id):
			r.errorf(key, "is no external key id: 1 to 128 letters, digits, - . _")
		case slices.Index(keys.Disabled, id) < i:
			r.errorf(key, "%s is listed twice", id)
		}
	}
}

// base64Size is the length of n bytes in standard Base64 (requirement U9).
func base64Size(n int) int { return (n + 2) / 3 * 4 }
