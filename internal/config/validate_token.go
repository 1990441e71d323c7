package config

// Checks of the settings that choose a token and log in to it.

import (
	"cmp"
	"fmt"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

// TokenText lists the settings that choose the token on one line. It returns "" if there are none.
func (h HSM) TokenText() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, strings.TrimSpace(name+" "+value))
		}
	}
	add("", h.Token)
	add("serial", h.Serial)
	if h.Slot != nil {
		add("slot", fmt.Sprint(*h.Slot))
	}
	add("manufacturer", h.TokenManufacturer)
	add("model", h.TokenModel)
	return strings.Join(parts, ", ")
}

// LogsIn reports whether the token needs a login.
func (h HSM) LogsIn() bool { return h.UserType != string(pkcs11.UserNone) }

func validateToken(r *schema.Report, at string, h HSM) {
	if h.TokenText() == "" && !r.Failed[at+".slot"] {
		r.Errorf(at+".token", "is missing: choose the token by token (its label), serial, slot, "+
			"or token_manufacturer and token_model; xks-proxy hsm probe --module %s lists the "+
			"tokens",
			cmp.Or(h.Module, "MODULE"))
	}
	for _, text := range []struct {
		key, value string
		size       int
	}{
		{"token", h.Token, pkcs11.MaxLabel},
		{"serial", h.Serial, pkcs11.MaxSerial},
		{"token_manufacturer", h.TokenManufacturer, pkcs11.MaxManufacturer},
		{"token_model", h.TokenModel, pkcs11.MaxModel},
	} {
		if len(text.value) > text.size {
			r.Errorf(at+"."+text.key, "is longer than %d bytes, which no token's is", text.size)
		}
	}
}

func validateLogin(r *schema.Report, at string, h HSM) {
	err := pkcs11.ValidUserType(h.UserType)
	if err != nil {
		r.Errorf(at+".user_type", "%v", err)
	}
	pin := at + ".pin"
	switch {
	case r.FailedAt(pin):
	case h.LogsIn() && h.PIN.IsZero():
		r.Errorf(
			pin,
			"is missing: say where the secret is with one of file, env, credential and command",
		)
	case !h.LogsIn() && !h.PIN.IsZero():
		r.Errorf(pin, "is given, but with user_type: none nobody logs in; remove one of the two")
	}
}

// warnSmallLimits warns of a group in which no HSM takes the largest requests of AWS KMS. If only
// some HSMs do not, such requests go to the others.
func warnSmallLimits(r *schema.Report, c *Config, at string, g Group) {
	aad, data := 0, 0
	for _, m := range g.HSMs {
		h := c.HSM(m.HSM)
		profile, known := pkcs11.LookupProfile(h.Profile)
		if !known {
			return // already reported
		}
		aad = max(aad, orElseNumber(h.Overrides.MaxAAD, profile.MaxAAD))
		data = max(data, orElseNumber(h.Overrides.MaxData, profile.MaxData))
	}
	if len(g.HSMs) == 0 {
		return
	}
	if aad < hsm.KMSAADSize+hsm.AADFraming {
		r.Warnf(
			at+".hsms",
			"no HSM of the group takes the %d bytes of AAD that AWS KMS may send (max_aad: %d "+
				"with "+
				"the proxy's framing); longer requests are answered UnsupportedOperationException",
			hsm.KMSAADSize,
			hsm.KMSAADSize+hsm.AADFraming,
		)
	}
	if data < hsm.KMSDataSize {
		r.Warnf(
			at+".hsms",
			"no HSM of the group takes the %d bytes of plaintext that AWS KMS may send "+
				"(max_data); "+
				"longer requests are answered UnsupportedOperationException",
			hsm.KMSDataSize,
		)
	}
}

func orElseNumber(n, other int) int {
	if n != 0 {
		return n
	}
	return other
}
