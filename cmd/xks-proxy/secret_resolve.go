package main

// The secrets of a configuration: where they are referred to, and reading them all.

import (
	"context"
	"fmt"

	"xks-proxy/pkg/sigv4"
)

// accessKey is one resolved credential of a key store.
type accessKey struct {
	ID     string
	Secret secret
}

// secrets are all secrets of a configuration.
type secrets struct {
	PINs       map[string]secret      // by name of the HSM
	AccessKeys map[string][]accessKey // by name of the key store, in the order of the file
}

// placedRef is a reference and its key in the file.
type placedRef struct {
	path string
	ref  secretRef
}

// secretRefs are all references of the file.
func (c *config) secretRefs() []placedRef {
	var refs []placedRef
	for i, h := range c.HSMs {
		refs = append(refs, placedRef{pinPath(i), h.PIN})
	}
	for i, k := range c.KeyStores {
		for j, credential := range k.Credentials {
			refs = append(refs, placedRef{secretKeyPath(i, j), credential.SecretAccessKey})
		}
	}
	return refs
}

func pinPath(hsm int) string { return fmt.Sprintf("hsms[%d].pin", hsm) }

func secretKeyPath(store, credential int) string {
	return fmt.Sprintf("key_stores[%d].credentials[%d].secret_access_key", store, credential)
}

// resolveSecrets reads every secret c refers to. It may take as long as the
// commands among them, secretCommandTimeout each. The error is a *configError with
// all problems, none of which quotes a secret. A guessable secret access key is a
// warning (requirement A6).
func resolveSecrets(ctx context.Context, c *config) (*secrets, []warning, error) {
	r := newReport(c.source)
	all := resolveInto(ctx, r, c)
	err := r.err()
	if err != nil {
		return nil, r.warnings, err
	}
	return all, r.warnings, nil
}

// resolveInto is resolveSecrets for a report that has more in it.
func resolveInto(ctx context.Context, r *report, c *config) *secrets {
	takeVariables(c.secretRefs())
	all := &secrets{PINs: map[string]secret{}, AccessKeys: map[string][]accessKey{}}
	for i, h := range c.HSMs {
		all.PINs[h.Name] = resolveSecret(ctx, r, pinPath(i), h.PIN)
	}
	for i, k := range c.KeyStores {
		for j, given := range k.Credentials {
			path := secretKeyPath(i, j)
			value := resolveSecret(ctx, r, path, given.SecretAccessKey)
			all.AccessKeys[k.Name] = append(all.AccessKeys[k.Name], accessKey{ID: given.AccessKeyID, Secret: value})
			checkCredential(r, path, given.AccessKeyID, value)
		}
	}
	return all
}

func resolveSecret(ctx context.Context, r *report, path string, ref secretRef) secret {
	value, err := ref.read(ctx, r.dir)
	if err != nil {
		r.errorf(path, "%v", err)
	}
	return value
}

// checkCredential is requirement A6.
func checkCredential(r *report, path, id string, value secret) {
	if r.failed[path] {
		return
	}
	credential := sigv4.Credential{AccessKeyID: id, SecretAccessKey: value.reveal()}
	err := credential.Validate()
	if err != nil {
		r.errorf(path, "%v", err)
		return
	}
	if reason := credential.Guessable(); reason != "" {
		r.warnf(path, "can be guessed: %s", reason)
	}
}
