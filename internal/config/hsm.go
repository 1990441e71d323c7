package config

// An HSM of the configuration: by its name, and its PIN.

import (
	"context"

	"xks-proxy/internal/secret"
)

// HSM finds an HSM by its name. The zero HSM stands for an unknown name.
func (c *Config) HSM(name string) HSM {
	for _, h := range c.HSMs {
		if h.Name == name {
			return h
		}
	}
	return HSM{}
}

// ReadPIN reads the PIN. It returns the zero secret for an HSM without one.
func (h HSM) ReadPIN(ctx context.Context, dir string) (secret.Secret, error) {
	if h.PIN.IsZero() {
		return secret.Secret{}, nil
	}
	return h.PIN.Read(ctx, dir)
}
