// Package secret holds values that are never printed, and reads them from where a configuration
// says.
package secret

// A secret that has been read: it prints as "[redacted]" whatever prints it.

import (
	"fmt"
	"io"
)

const Redacted = "[redacted]"

// Secret is a PIN or a secret access key. Its value is behind a pointer, so that
// even printing a struct that holds a secret in an unexported field, which calls no
// method of it, shows an address.
type Secret struct {
	value *string
}

// New hides a value.
func New(value string) Secret { return Secret{value: &value} }

// Reveal gives the value, for the one who needs it; "" for the zero secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String is for whatever asks for a fmt.Stringer (zap).
func (s Secret) String() string { return Redacted }

// Format is for every verb of fmt.
func (s Secret) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, Redacted) // fmt has nowhere to report it
}

// MarshalText is for JSON, YAML, XML and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
