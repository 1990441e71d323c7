// Package secret holds values that are never printed, and reads them from the places that a
// configuration names.
package secret

// A secret that has been read: it prints as "[redacted]" whatever prints it.

import (
	"fmt"
	"io"
)

// Redacted is what a secret prints as.
const Redacted = "[redacted]"

// Secret is a PIN or a secret access key. Its value is behind a pointer, so that
// even printing a struct that holds a secret in an unexported field, which calls no
// method of it, shows an address.
type Secret struct {
	value *string
}

// New hides a value.
func New(value string) Secret { return Secret{value: &value} }

// Reveal returns the value; "" for the zero Secret.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String returns Redacted, for users of fmt.Stringer (zap).
func (s Secret) String() string { return Redacted }

// Format writes Redacted for every verb of fmt.
func (s Secret) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, Redacted) // fmt has nowhere to report it
}

// MarshalText returns Redacted, for JSON, YAML, XML and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }
