package config

// Checks of more than one key: names, references, and numbers that must fit each other. What a
// single key allows is in its tags.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/xks"
)

var (
	regionPattern     = regexp.MustCompile(`^[a-z]{2,4}(-[a-z0-9]{1,20}){1,4}$`)
	variablePattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	credentialPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$`)
)

// validate checks c as a whole.
func validate(r *schema.Report, c *Config) {
	validateServer(r, c)
	validateAdmin(r, c.Admin)
	validateSecretRefs(r, c)
	validateHSMs(r, c)
	validateGroups(r, c)
	validateKeyStores(r, c)
	warnUnused(r, c)
}

func validateSecretRefs(r *schema.Report, c *Config) {
	for _, s := range c.SecretRefs() {
		if s.Ref.Env != "" && !variablePattern.MatchString(s.Ref.Env) {
			r.Errorf(schema.JoinPath(s.Path, "env"), "must be the name of an environment "+
				"variable, not the secret itself")
		}
		if s.Ref.Credential != "" && !credentialPattern.MatchString(s.Ref.Credential) {
			r.Errorf(schema.JoinPath(s.Path, "credential"), "must be the name of a systemd "+
				"credential, not a path and not the secret itself")
		}
	}
}

func validateHSMs(r *schema.Report, c *Config) {
	names := map[string]int{}
	tokens := map[string]int{}
	for i, h := range c.HSMs {
		at := fmt.Sprintf("hsms[%d]", i)
		validateName(r, names, i, "hsms", h.Name)
		validateToken(r, at, h)
		validateLogin(r, at, h)
		ValidateEnvironment(r, at+".environment", h.Environment)
		if size := h.Overrides.IVSize; size != 0 && size != hsm.IVSize && size != hsm.LongIVSize {
			r.Errorf(at+".overrides.iv_size", "must be 12 or 16; the XKS API knows no other IV")
		}
		warnEmptyList(r, at+".overrides.invalid_ciphertext", h.Overrides.InvalidCiphertext)
		warnEmptyList(r, at+".overrides.ambiguous", h.Overrides.Ambiguous)
		chosen := fmt.Sprintf("%q", append([]string{h.Module, h.TokenText()}, h.Environment...))
		first, repeated := tokens[chosen]
		if repeated && h.Module != "" && h.TokenText() != "" {
			r.Errorf(at+".token", "is the token of hsms[%d] again (same module, token, serial "+
				"and environment): one HSM, not two", first)
		} else {
			tokens[chosen] = i
		}
	}
}

func warnEmptyList(r *schema.Report, at string, codes []hsm.CKR) {
	if codes != nil && len(codes) == 0 {
		r.Warnf(at, "is empty, which leaves the profile's list")
	}
}

// ValidateEnvironment reports entries that are not NAME=value, and names that are set twice.
func ValidateEnvironment(r *schema.Report, at string, environment []string) {
	seen := map[string]bool{}
	for i, pair := range environment {
		name, _, ok := strings.Cut(pair, "=")
		key := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case !ok || !variablePattern.MatchString(name):
			r.Errorf(key, "must be NAME=value")
		case seen[name]:
			r.Errorf(key, "sets %s a second time", name)
		}
		seen[name] = true
	}
}

// NameRule is the rest of a sentence about a name that is not valid. See text.IsName.
const NameRule = "must be " + text.NameForm

// validateName reports a name that is not valid, or that an earlier element has.
func validateName(r *schema.Report, seen map[string]int, i int, list, name string) {
	at := fmt.Sprintf("%s[%d].name", list, i)
	if !text.IsName(name) {
		r.Errorf(at, "%s", NameRule)
		return
	}
	if first, repeated := seen[name]; repeated {
		r.Errorf(at, "is the name of %s[%d], too; names are unique", list, first)
		return
	}
	seen[name] = i
}

// validateReference reports a name that does not exist.
func validateReference(r *schema.Report, at, what, name string, known []string) {
	if slices.Contains(known, name) {
		return
	}
	known = slices.DeleteFunc(slices.Clone(known), func(k string) bool { return k == "" })
	r.Errorf(
		at, "there is no %s named %s; %s", what, schema.QuoteName(name),
		text.DidYouMean(name, known),
	)
}

// warnUnused names what nothing refers to.
func warnUnused(r *schema.Report, c *Config) {
	groups, unknown := map[string]bool{}, false // a reference that is wrong may have meant any
	for i, k := range c.KeyStores {
		groups[k.HSMGroup] = true
		unknown = unknown || r.Failed[schema.StoreKey(i, "hsm_group")] ||
			r.IsBroken(schema.StoreKey(i, ""))
	}
	hsms, unknownHSM := map[string]bool{}, false
	for i, g := range c.HSMGroups {
		if !groups[g.Name] && !unknown {
			r.Warnf(fmt.Sprintf("hsm_groups[%d]", i), "no key store uses the HSM group %q", g.Name)
		}
		for j, m := range g.HSMs {
			hsms[m.HSM] = true
			unknownHSM = unknownHSM || r.Failed[fmt.Sprintf("hsm_groups[%d].hsms[%d].hsm", i, j)]
		}
	}
	for i, h := range c.HSMs {
		if !hsms[h.Name] && !unknownHSM {
			r.Warnf(fmt.Sprintf("hsms[%d]", i), "no HSM group uses the HSM %q", h.Name)
		}
	}
}

func validateLabels(r *schema.Report, at string, labels []string, testKey string) {
	for i, pattern := range labels {
		key := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case pattern == "":
			r.Errorf(key, "is empty; \"*\" stands for every key")
		case len(pattern) > maxPattern:
			r.Errorf(key, "is longer than %d bytes", maxPattern)
		case !xks.IsLabelPattern(pattern):
			r.Errorf(
				key, "%q is not a pattern; * and ? and [a-z] are known, \\ makes them plain",
				pattern,
			)
		case pattern == testKey:
			r.Warnf(
				key, "%q is the test key of the HSM group, which no key store can reach", pattern,
			)
		}
	}
}
