// Package pkcs11 is a hsm.Token on a PKCS#11 module (the vendor's .so). It is
// meant for a process of its own for each HSM: a module that crashes takes the
// process with it, and one that hangs keeps a thread for good.
package pkcs11

// The configuration of one HSM. It travels as JSON, PIN included, from the
// serving process to the HSM's own, and must print nowhere.

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/pkg/hsm"
)

// Limits of Config.
const (
	DefaultSessions = 8
	MaxSessions     = 1024
	// Texts of CK_TOKEN_INFO, bytes (PKCS#11 2.40 section 3.2).
	MaxLabel        = 32
	MaxSerial       = 16
	MaxManufacturer = 32
	MaxModel        = 16
)

const redacted = "[redacted]"

// Secret is a string that prints as "[redacted]" in every format verb and in
// structured logs. JSON is the exception: that is how it reaches the worker.
type Secret string

// String hides the secret.
func (Secret) String() string { return redacted }

// Format hides the secret from every verb, %x and %#v included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue hides the secret from log/slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Config is everything needed to open one HSM. Without a TestKey, or without that key on the token,
// an ambiguous refusal to decrypt proves nothing, and most failures count as the HSM's.
type Config struct {
	Module string `json:"module"` // absolute path of the shared object

	// The token: each of these that is set must be that of the token, one at least is set, and
	// exactly one token must match.
	Token        string `json:"token,omitempty"`  // label, at most 32 bytes
	Serial       string `json:"serial,omitempty"` // at most 16 characters
	Slot         *uint  `json:"slot,omitempty"`   // CK_SLOT_ID; nil: any
	Manufacturer string `json:"manufacturer,omitempty"`
	Model        string `json:"model,omitempty"`

	// IgnoreInitialized takes a token that says that it is not initialised
	// (CKF_TOKEN_INITIALIZED is not set), which some in use do.
	IgnoreInitialized bool `json:"ignoreInitialized,omitempty"`

	// UserType is who logs in: one of the User… constants or a number (0x80000001); "": UserNormal.
	UserType UserType `json:"userType,omitempty"`
	PIN      Secret   `json:"pin,omitempty"` // of that user; empty for UserNone

	Sessions  int       `json:"sessions,omitempty"` // that encrypt and decrypt at once, 1 to 1024; 0: 8. Up to four more serve listings, the canary and the login.
	Profile   string    `json:"profile,omitempty"`  // one of Profiles(); "": generic
	Overrides Overrides `json:"overrides,omitzero"`
	TestKey   string    `json:"testKey,omitempty"` // CKA_LABEL of the proxy's own test key, for the canary; "": none

	KeyVersion hsm.VersionRule `json:"keyVersion,omitempty"` // how key versions are read from CKA_ID; "": id4
}

// String names the token and hides the PIN.
func (c Config) String() string {
	return fmt.Sprintf("%s of %s, profile %q, PIN %s", c.wanted(), c.Module, c.Profile, c.PIN)
}

// GoString is String: %#v must not show the PIN either.
func (c Config) GoString() string { return c.String() }

// LogValue hides the PIN from log/slog, which would otherwise marshal the fields.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate says what is wrong with the configuration, all of it at once.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if !filepath.IsAbs(c.Module) {
		bad("module %q: give the absolute path of the PKCS#11 library", c.Module)
	}
	if c.wanted() == "" {
		bad("no token is chosen: give its label, serial number, slot, or manufacturer and model")
	}
	if len(c.Token) > MaxLabel {
		bad("token %q: a token label has at most %d bytes", c.Token, MaxLabel)
	}
	if len(c.Serial) > MaxSerial {
		bad("serial %q: a serial number has at most %d characters", c.Serial, MaxSerial)
	}
	if len(c.Manufacturer) > MaxManufacturer {
		bad("manufacturer %q: a token's has at most %d bytes", c.Manufacturer, MaxManufacturer)
	}
	if len(c.Model) > MaxModel {
		bad("model %q: a token's has at most %d bytes", c.Model, MaxModel)
	}
	err := c.UserType.check()
	if err != nil {
		problems = append(problems, err)
	}
	err = c.checkPIN()
	if err != nil {
		problems = append(problems, err)
	}
	if c.Sessions < 0 || c.Sessions > MaxSessions {
		bad("sessions %d: use 1 to %d", c.Sessions, MaxSessions)
	}
	if c.KeyVersion != "" && !slices.Contains(hsm.VersionRules(), c.KeyVersion) {
		bad("key version %q: use one of %v", c.KeyVersion, hsm.VersionRules())
	}
	_, err = c.profile()
	if err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// profile is the named profile with the overrides applied.
func (c Config) profile() (Profile, error) {
	name := c.Profile
	if name == "" {
		name = "generic"
	}
	p, ok := LookupProfile(name)
	if !ok {
		return Profile{}, fmt.Errorf("profile %q is unknown: use one of %s", name, strings.Join(Profiles(), ", "))
	}
	p = p.with(c.Overrides)
	err := p.validate()
	if err != nil {
		return Profile{}, fmt.Errorf("profile %q with its overrides: %w", name, err)
	}
	return p, nil
}

func (c Config) sessions() int {
	if c.Sessions == 0 {
		return DefaultSessions
	}
	return c.Sessions
}
