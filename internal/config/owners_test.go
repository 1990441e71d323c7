package config

// A tag has to be a literal, also where another package owns the rule: tests hold the tags to it.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

func TestLimitsAreThoseOfTheirOwners(t *testing.T) {
	limits := map[string][2]any{ // the least and the most; nil: the configuration's own
		"server.max_body":                             {xks.MinBody, nil},
		"server.max_plaintext":                        {xks.MinData, hsm.MaxDataSize},
		"server.max_aad":                              {xks.MinAAD, xks.MaxAAD},
		"key_stores[0].quota.requests_per_second":     {0, xks.MaxQuota},
		"key_stores[0].quota.burst":                   {0, xks.MaxQuota},
		"key_stores[0].quota.key_requests_per_second": {0, xks.MaxQuota},
		"key_stores[0].quota.key_burst":               {0, xks.MaxQuota},
		"hsms[0].sessions":                            {1, pkcs11.MaxSessions},
		"hsms[0].overrides.iv_size":                   {hsm.IVSize, hsm.LongIVSize},
		"hsms[0].overrides.max_aad":                   {pkcs11.MinLimit, hsm.MaxAADSize},
		"hsms[0].overrides.max_data":                  {pkcs11.MinLimit, hsm.MaxDataSize},
		"hsm_groups[0].probe_interval":                {nil, group.MaxProbeInterval},
		"hsm_groups[0].probe_timeout":                 {nil, group.MaxProbeTimeout},
	}
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		want, known := limits[path]
		delete(limits, path)
		for i, limit := range []string{s.Min, s.Max} {
			if known && want[i] != nil && limit != fmt.Sprint(want[i]) {
				t.Errorf("%s: %s, and its owner has %v", path, limit, want[i])
			}
		}
	})
	if len(limits) > 0 {
		t.Errorf("not in the schema: %v", limits)
	}
}

func TestChoicesAreThoseOfTheirOwners(t *testing.T) {
	choices := map[string][]string{
		"key_stores[0].policy.mode": {string(authz.ModeEnforce), string(authz.ModeShadow)},
		"hsms[0].profile":           pkcs11.Profiles(),
		"hsm_groups[0].key_version": texts(hsm.VersionRules()),
		"hsm_groups[0].lost_key": texts(
			[]catalogue.LostKey{catalogue.LostKeyEncrypt, catalogue.LostKeyRefuse},
		),
		"hsms[0].overrides.iv_source": texts(
			[]pkcs11.IVSource{
				pkcs11.IVProxy,
				pkcs11.IVHSMRandom,
				pkcs11.IVWrittenBack,
				pkcs11.IVAppended,
			},
		),
		"hsms[0].overrides.iv_bits": texts(
			[]pkcs11.IVBits{pkcs11.IVBitsLength, pkcs11.IVBitsZero, pkcs11.IVBitsAbsent},
		),
	}
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		want, known := choices[path]
		delete(choices, path)
		if known &&
			!slices.Equal(
				slices.Sorted(slices.Values(s.OneOf)),
				slices.Sorted(slices.Values(want)),
			) {
			t.Errorf("%s: %v, and its owner has %v", path, s.OneOf, want)
		}
	})
	if len(choices) > 0 {
		t.Errorf("not in the schema: %v", choices)
	}
}

func texts[T ~string](all []T) []string {
	var list []string
	for _, one := range all {
		list = append(list, string(one))
	}
	return list
}

// The patterns, which are for editors, accept and refuse what the checks do.
func TestPatternsAreThoseOfTheirOwners(t *testing.T) {
	patterns := map[string]struct {
		check func(string) bool
		good  string // an example
	}{
		"hsms[0].name":                {text.IsName, "a"},
		"hsm_groups[0].name":          {text.IsName, "a"},
		"key_stores[0].name":          {text.IsName, "a"},
		"key_stores[0].regions":       {isRegion, "eu-central-1"},
		"key_stores[0].keys.disabled": {xks.IsKeyID, "a"},
		"key_stores[0].credentials[0].access_key_id": {
			sigv4.IsAccessKeyID,
			strings.Repeat("A", 20),
		},
	}
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		owner, known := patterns[path]
		delete(patterns, path)
		if known != (s.Pattern != "") {
			t.Errorf("%s: the pattern %q, and a check: %t", path, s.Pattern, known)
		}
		if s.Pattern == "" || !known {
			return
		}
		pattern := regexp.MustCompile(s.Pattern)
		if !pattern.MatchString(owner.good) {
			t.Errorf("%s: %q is refused", path, owner.good)
		}
		for _, sample := range variations(owner.good) {
			if pattern.MatchString(sample) != owner.check(sample) {
				t.Errorf(
					"%s: %q matches the pattern: %t",
					path,
					sample,
					pattern.MatchString(sample),
				)
			}
		}
	})
	if len(patterns) > 0 {
		t.Errorf("not in the schema: %v", patterns)
	}
}

// variations are a text with each character before and behind it, and in many lengths.
func variations(good string) []string {
	var all []string
	for c := range rune(256) {
		all = append(all, string(c), string(c)+good, good+string(c))
	}
	for n := range 140 {
		all = append(all, strings.Repeat(good[:1], n))
	}
	return all
}
