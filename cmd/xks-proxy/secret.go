package main

// A secret that has been read: it prints as "[redacted]" whatever prints it.

import (
	"fmt"
	"io"
)

const redacted = "[redacted]"

// secret is a PIN or a secret access key. Its value is behind a pointer, so that
// even printing a struct that holds a secret in an unexported field, which calls no
// method of it, shows an address.
type secret struct {
	value *string
}

func newSecret(value string) secret { return secret{value: &value} }

// reveal gives the value, for the one who needs it; "" for the zero secret.
func (s secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String is for whatever asks for a fmt.Stringer (zap).
func (s secret) String() string { return redacted }

// Format is for every verb of fmt.
func (s secret) Format(state fmt.State, _ rune) {
	_, _ = io.WriteString(state, redacted) // fmt has nowhere to report it
}

// MarshalText is for JSON, YAML, XML and log/slog.
func (s secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
