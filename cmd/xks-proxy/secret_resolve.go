package main

// The secrets of a configuration: where they are referred to, and reading them all.

import (
	"context"
	"fmt"
	"sync"

	"xks-proxy/internal/secret"
	"xks-proxy/pkg/sigv4"
)

// accessKey is one resolved credential of a key store.
type accessKey struct {
	ID     string
	Secret secret.Secret
}

// secrets are all secrets of a configuration.
type secrets struct {
	PINs       map[string]secret.Secret // by name of the HSM
	AccessKeys map[string][]accessKey   // by name of the key store, in the order of the file
}

// placedRef is a reference and its key in the file.
type placedRef struct {
	path string
	ref  secret.Ref
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
	return storeKey(store, fmt.Sprintf("credentials[%d].secret_access_key", credential))
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

func withoutPlaces(placed []placedRef) []secret.Ref {
	refs := make([]secret.Ref, 0, len(placed))
	for _, p := range placed {
		refs = append(refs, p.ref)
	}
	return refs
}

// resolveInto is resolveSecrets for a report that has more in it.
func resolveInto(ctx context.Context, r *report, c *config) *secrets {
	refs := c.secretRefs()
	secret.TakeVariables(withoutPlaces(refs)...)
	values := readAll(ctx, r, refs)
	all := &secrets{PINs: map[string]secret.Secret{}, AccessKeys: map[string][]accessKey{}}
	for i, h := range c.HSMs {
		all.PINs[h.Name] = values[i]
	}
	values = values[len(c.HSMs):] // as secretRefs has them
	owners := map[string]int{}    // the key store that has a secret access key, by its value
	for i, k := range c.KeyStores {
		for j, given := range k.Credentials {
			value := values[0]
			values = values[1:]
			all.AccessKeys[k.Name] = append(all.AccessKeys[k.Name], accessKey{ID: given.AccessKeyID, Secret: value})
			checkCredential(r, secretKeyPath(i, j), given.AccessKeyID, value)
			checkShared(r, c, owners, i, j, value)
		}
	}
	return all
}

// commandsAtOnce bounds the programs that are run at the same time, so that a thousand key stores do not start a thousand.
const commandsAtOnce = 8

// readAll reads the secrets in the order of refs. Commands, which may take their time, are run side by side.
func readAll(ctx context.Context, r *report, refs []placedRef) []secret.Secret {
	values, errs := make([]secret.Secret, len(refs)), make([]error, len(refs))
	var running sync.WaitGroup
	free := make(chan struct{}, commandsAtOnce)
	for i, placed := range refs {
		if placed.ref.IsZero() || r.failedAt(placed.path) {
			continue // the PIN of a token that needs no login, or a reference that is wrong itself
		}
		dir := r.dirOf(placed.path)
		if len(placed.ref.Command) == 0 {
			values[i], errs[i] = placed.ref.Read(ctx, dir)
			continue
		}
		free <- struct{}{}
		running.Go(func() {
			values[i], errs[i] = placed.ref.Read(ctx, dir)
			<-free
		})
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			r.errorf(refs[i].path, "%v", err)
		}
	}
	return values
}

// failedAt reports whether a reference, or a key of it, has a problem.
func (r *report) failedAt(path string) bool {
	for _, place := range []string{"file", "env", "credential", "command"} {
		if r.failed[joinPath(path, place)] {
			return true
		}
	}
	return r.failed[path] || r.isBroken(path)
}

// resolveSecret reads one secret.
func resolveSecret(ctx context.Context, r *report, path string, ref secret.Ref) secret.Secret {
	return readAll(ctx, r, []placedRef{{path, ref}})[0]
}

// checkShared finds a secret that two key stores have: who signs for one could sign for the other, too (A5).
func checkShared(r *report, c *config, owners map[string]int, i, j int, value secret.Secret) {
	if value.Reveal() == "" {
		return
	}
	first, shared := owners[value.Reveal()]
	if !shared {
		owners[value.Reveal()] = i
		return
	}
	const message = "is the secret access key of %s, too; who knows one key store's could sign for the other: xks-proxy credentials new makes one"
	path, other := secretKeyPath(i, j), c.other(i, first, "")
	switch {
	case first == i: // a second access key id for the same secret: pointless, and within one key store
	case c.KeyStores[first].Owner != c.KeyStores[i].Owner:
		r.errorf(path, message, other)
	default:
		r.warnf(path, message, other)
	}
}

// checkCredential is requirement A6.
func checkCredential(r *report, path, id string, value secret.Secret) {
	if r.failedAt(path) {
		return
	}
	credential := sigv4.Credential{AccessKeyID: id, SecretAccessKey: value.Reveal()}
	err := credential.Validate()
	if err != nil {
		r.errorf(path, "%v", err)
		return
	}
	if reason := credential.Guessable(); reason != "" {
		r.warnf(path, "can be guessed: %s", reason)
	}
}
