package main

// An HSM of the configuration: by its name, and its PIN.

import (
	"context"
	"xks-proxy/internal/secret"
)

// hsm finds an HSM that validate has seen.
func (c *config) hsm(name string) hsmConfig {
	for _, h := range c.HSMs {
		if h.Name == name {
			return h
		}
	}
	return hsmConfig{}
}

// readPIN reads the PIN; the zero secret if there is none.
func (h hsmConfig) readPIN(ctx context.Context, dir string) (secret.Secret, error) {
	if h.PIN.IsZero() {
		return secret.Secret{}, nil
	}
	return h.PIN.Read(ctx, dir)
}
