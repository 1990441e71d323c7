package probe

// What hsm probe prints: the entry of hsms[], and the tokens of a module.

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"xks-proxy/internal/config"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/pkcs11"
)

// entry collects lines of YAML.
type entry struct {
	strings.Builder
}

func (e *entry) line(format string, args ...any) { fmt.Fprintf(&e.Builder, format+"\n", args...) }

// setting is a key at an indent, with a comment behind it if there is one.
func (e *entry) setting(indent, key, value, comment string) {
	text := indent + key + ": " + value
	if comment != "" {
		text += strings.Repeat(" ", max(1, 40-len(text))) + "# " + comment
	}
	e.line("%s", text)
}

// quoted is a text in YAML. Go's quotes are YAML's double quotes for UTF-8.
func quoted(s string) string { return fmt.Sprintf("%q", s) }

// printEntry prints the entry for a token whose probe found a way to use it.
func (f *probeFlags) printEntry(out io.Writer, r pkcs11.ProbeReport) error {
	e := &entry{}
	e.line("# Found by xks-proxy hsm probe on %s, on:", time.Now().Format(time.DateOnly))
	e.line(
		"#   %s",
		commentText(
			"%s %s, hardware %s, firmware %s; library %s",
			r.Token.Manufacturer,
			r.Token.Model,
			r.Token.HardwareVersion,
			r.Token.FirmwareVersion,
			r.Token.Library,
		),
	)
	for _, line := range probeFindings(r) {
		e.line("# %s", commentText("%s", line))
	}
	e.line("hsms:")
	e.line("  - name: %s", f.hsm.Name)
	const in = "    "
	e.setting(in, "profile", "generic", profileComment(r.Profiles))
	e.setting(in, "module", quoted(f.hsm.Module), "")
	f.writeChoice(e, r)
	if !r.Initialized {
		e.setting(in, "token_initialized", "ignore", "the token says that it is not initialised")
	}
	if f.hsm.UserType != string(pkcs11.UserNormal) {
		e.setting(in, "user_type", quoted(f.hsm.UserType), "")
	}
	switch {
	case f.hsm.PIN.File != "":
		e.setting(in, "pin", "{file: "+quoted(f.hsm.PIN.File)+"}", "")
	case f.hsm.PIN.Env != "":
		e.setting(in, "pin", "{env: "+f.hsm.PIN.Env+"}", "")
	}
	if len(f.hsm.Environment) > 0 {
		var pairs []string
		for _, pair := range f.hsm.Environment {
			pairs = append(pairs, quoted(pair))
		}
		e.setting(in, "environment", "["+strings.Join(pairs, ", ")+"]", "")
	}
	e.setting(in, "sessions", fmt.Sprint(sessionsFor(r)), sessionsComment(r))
	writeOverrides(e, r.Profile)
	_, err := io.WriteString(out, e.String())
	return err
}

// commentText is text for a comment: one line, nothing that a terminal obeys.
func commentText(format string, args ...any) string {
	text := fmt.Sprintf("%q", fmt.Sprintf(format, args...))
	return strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`)
}

func profileComment(same []string) string {
	same = slices.DeleteFunc(
		slices.Clone(same),
		func(name string) bool { return name == "generic" },
	)
	if len(same) == 0 {
		return ""
	}
	return "profiles that say the same: " + strings.Join(same, ", ")
}

// writeChoice chooses the token as the command line did if that is unambiguous, which it was, and
// says what else there is.
func (f *probeFlags) writeChoice(e *entry, r pkcs11.ProbeReport) {
	const in = "    "
	for _, text := range []struct{ key, value string }{
		{"token", f.hsm.Token}, {"serial", f.hsm.Serial},
		{"token_manufacturer", f.hsm.TokenManufacturer}, {"token_model", f.hsm.TokenModel},
	} {
		if text.value != "" {
			e.setting(in, text.key, quoted(text.value), "")
		}
	}
	if f.hsm.Slot != nil {
		comment := "slots may change their numbers"
		if r.Choice.Slot == nil {
			comment += "; better: " + choiceText(r.Choice)
		}
		e.setting(in, "slot", fmt.Sprint(*f.hsm.Slot), commentText("%s", comment))
	}
	if f.hsm.Serial == "" && r.Token.Serial != "" && utf8.ValidString(r.Token.Serial) {
		e.setting(in, "#serial", quoted(r.Token.Serial), "refuses any other token")
	}
}

func choiceText(c pkcs11.Choice) string {
	slot := (*int)(nil)
	if c.Slot != nil {
		n := int(*c.Slot)
		slot = &n
	}
	var parts []string
	for _, text := range []struct{ key, value string }{
		{"token", c.Token}, {"serial", c.Serial}, {"token_manufacturer", c.Manufacturer}, {"token_model", c.Model},
	} {
		if text.value != "" {
			parts = append(parts, text.key+": "+quoted(text.value))
		}
	}
	if slot != nil {
		parts = append(parts, fmt.Sprintf("slot: %d", *slot))
	}
	return strings.Join(parts, ", ")
}

// sessionReserve is what serve opens beside `sessions`: for listings, the canary and the login.
const sessionReserve = 4

const usualSessions = 32

func sessionsFor(r pkcs11.ProbeReport) int {
	if r.SessionLimit == "" {
		return usualSessions
	}
	return max(1, min(usualSessions, r.Sessions-sessionReserve))
}

func sessionsComment(r pkcs11.ProbeReport) string {
	switch {
	case r.Sessions == 0:
		return "the number of sessions was not found out"
	case r.SessionLimit == "":
		return fmt.Sprintf("%d could be opened at once; no more were tried", r.Sessions)
	}
	return fmt.Sprintf(
		"%d could be opened at once, then: %s; %d are for listings and the login",
		r.Sessions,
		r.SessionLimit,
		sessionReserve,
	)
}

// writeOverrides writes what differs from the profile generic.
func writeOverrides(e *entry, p pkcs11.ProbeProfile) {
	generic, _ := pkcs11.LookupProfile("generic")
	o := &entry{}
	const in = "      "
	if p.IVSource != generic.IVSource {
		o.setting(in, "iv_source", string(p.IVSource), "who makes the IV")
	}
	if p.IVSize != generic.IVSize {
		o.setting(in, "iv_size", fmt.Sprint(p.IVSize), "bytes")
	}
	if p.IVBits != generic.IVBits {
		o.setting(in, "iv_bits", string(p.IVBits), "ulIvBits of CK_GCM_PARAMS")
	}
	if p.MaxAAD != generic.MaxAAD {
		o.setting(
			in,
			"max_aad",
			fmt.Sprint(p.MaxAAD),
			"bytes; longer ones go to another HSM of the group",
		)
	}
	if p.MaxData != generic.MaxData {
		o.setting(
			in,
			"max_data",
			fmt.Sprint(p.MaxData),
			"bytes; longer ones go to another HSM of the group",
		)
	}
	if !p.ReadOnlySessions {
		o.setting(in, "read_only_sessions", "false", "")
	}
	if !slices.Equal(p.Ambiguous, generic.Ambiguous) {
		o.setting(
			in,
			"ambiguous",
			config.CodeList(p.Ambiguous),
			"if the vendor says that a code means bad ciphertext only: invalid_ciphertext",
		)
	}
	if o.Len() > 0 {
		e.line("    overrides:")
		e.WriteString(o.String())
	}
}

// probeFindings are the figures of a report, a line each.
func probeFindings(r pkcs11.ProbeReport) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add(
		"Token: label %q, serial %q, slot %d. Mechanism: %s.",
		r.Token.Label,
		r.Token.Serial,
		r.Slot,
		r.Mechanism,
	)
	var works []string
	for _, try := range r.Tries {
		if try.Works {
			works = append(works, fmt.Sprintf("%s with %d bytes", try.IVSource, try.IVSize))
		}
	}
	add("IVs that work (iv_source, iv_size): %s.", strings.Join(works, ", "))
	switch {
	case r.AgreesWithGo == nil:
		add("Not compared with another implementation of AES-GCM.")
	case *r.AgreesWithGo:
		add(
			"Agrees with Go's AES-GCM; decrypts ciphertexts of others with IVs of %s bytes.",
			numbers(r.DecryptsIVSizes),
		)
	}
	for _, refusal := range r.Refusals {
		add("%s: %s answers %s.", capital(refusal.What), refusal.Function, refusal.Code)
	}
	if len(r.Refusals) > 0 && !r.UsableAfterRefusal {
		add("After a refusal the session cannot be used; the proxy opens a new one.")
	}
	if r.BadKey != nil {
		add("%s: %s answers %s.", capital(r.BadKey.What), r.BadKey.Function, r.BadKey.Code)
	}
	add(
		"%d keys are visible; listing them took %v, one encryption %v.",
		r.Keys,
		time.Duration(r.ListTime).Round(10*time.Microsecond),
		time.Duration(r.EncryptTime).Round(time.Microsecond),
	)
	if len(r.Skipped) > 0 {
		add("Left out, because the module crashed or hung: %s.", strings.Join(r.Skipped, ", "))
	}
	return lines
}

func numbers(list []int) string {
	if len(list) == 0 {
		return "no"
	}
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", " and "), "[]")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// printTokens is the answer to a command line that chooses no token.
func printTokens(p *text.Page, tokens []pkcs11.ProbeReport) {
	if len(tokens) == 0 {
		p.Paragraph(
			"",
			"",
			"The module shows no token: is the HSM reachable, and does the module read "+
				"the right configuration?",
		)
		return
	}
	t := text.NewTable("<SLOT", "LABEL", "SERIAL", "MANUFACTURER", "MODEL", "INITIALIZED", "LOGIN",
		"CHOOSE IT BY")
	for _, r := range tokens {
		t.Row(fmt.Sprint(r.Slot), quoted(r.Token.Label), quoted(r.Token.Serial),
			quoted(r.Token.Manufacturer), quoted(r.Token.Model), yesNo(r.Initialized),
			yesNo(r.LoginRequired), choiceText(r.Choice))
	}
	p.Table(t)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
