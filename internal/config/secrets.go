package config

// The secrets of a configuration: where they are referred to, and reading them all.

import (
	"context"
	"fmt"
	"sync"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/sigv4"
)

// AccessKey is one resolved credential of a key store.
type AccessKey struct {
	ID     string        // access key id
	Secret secret.Secret // secret access key
}

// Secrets are all secrets of a configuration.
type Secrets struct {
	PINs       map[string]secret.Secret // by name of the HSM
	AccessKeys map[string][]AccessKey   // by name of the key store, in the order of the file
}

// PlacedRef is a reference to a secret, and its key in the file.
type PlacedRef struct {
	Path string // key, such as hsms[0].pin
	Ref  secret.Ref
}

// SecretRefs returns all references: those of the HSMs, then those of the key stores.
func (c *Config) SecretRefs() []PlacedRef {
	var refs []PlacedRef
	for i, h := range c.HSMs {
		refs = append(refs, PlacedRef{PINPath(i), h.PIN})
	}
	for i, k := range c.KeyStores {
		for j, credential := range k.Credentials {
			refs = append(refs, PlacedRef{SecretKeyPath(i, j), credential.SecretAccessKey})
		}
	}
	return refs
}

// PINPath is the key of the PIN of an HSM, by its index.
func PINPath(hsm int) string { return fmt.Sprintf("hsms[%d].pin", hsm) }

// SecretKeyPath is the key of a secret access key, by the indices of key store and credential.
func SecretKeyPath(store, credential int) string {
	return schema.StoreKey(store, fmt.Sprintf("credentials[%d].secret_access_key", credential))
}

// ResolveSecrets reads every secret that c refers to. It waits for their commands, which have 10
// seconds each. The error is a *schema.Error with all problems, none of which quotes a secret. A
// secret access key that can be guessed is a warning (requirement A6).
func ResolveSecrets(ctx context.Context, c *Config) (*Secrets, []schema.Warning, error) {
	r := schema.NewReport(c.Source)
	all := ResolveInto(ctx, r, c)
	err := r.Err()
	if err != nil {
		return nil, r.Warnings, err
	}
	return all, r.Warnings, nil
}

// WithoutPlaces returns the references alone.
func WithoutPlaces(placed []PlacedRef) []secret.Ref {
	refs := make([]secret.Ref, 0, len(placed))
	for _, p := range placed {
		refs = append(refs, p.Ref)
	}
	return refs
}

// ResolveInto is ResolveSecrets for a report that may already have problems.
func ResolveInto(ctx context.Context, r *schema.Report, c *Config) *Secrets {
	refs := c.SecretRefs()
	secret.TakeVariables(WithoutPlaces(refs)...)
	values := ReadAll(ctx, r, refs)
	all := &Secrets{PINs: map[string]secret.Secret{}, AccessKeys: map[string][]AccessKey{}}
	for i, h := range c.HSMs {
		all.PINs[h.Name] = values[i]
	}
	values = values[len(c.HSMs):] // in the order of SecretRefs
	owners := map[string]int{}    // the key store that has a secret access key, by its value
	for i, k := range c.KeyStores {
		for j, given := range k.Credentials {
			value := values[0]
			values = values[1:]
			all.AccessKeys[k.Name] = append(
				all.AccessKeys[k.Name], AccessKey{ID: given.AccessKeyID, Secret: value},
			)
			CheckCredential(r, SecretKeyPath(i, j), given.AccessKeyID, value)
			checkShared(r, c, owners, i, j, value)
		}
	}
	return all
}

// commandsAtOnce bounds the programs that are run at the same time, so that a thousand key stores
// do not start a thousand.
const commandsAtOnce = 8

// ReadAll reads the secrets, in the order of refs. It runs commands concurrently, because they may
// be slow.
func ReadAll(ctx context.Context, r *schema.Report, refs []PlacedRef) []secret.Secret {
	values, errs := make([]secret.Secret, len(refs)), make([]error, len(refs))
	var running sync.WaitGroup
	free := make(chan struct{}, commandsAtOnce)
	for i, placed := range refs {
		if placed.Ref.IsZero() || r.FailedAt(placed.Path) {
			continue // the PIN of a token that needs no login, or a reference that is wrong itself
		}
		dir := r.DirOf(placed.Path)
		if len(placed.Ref.Command) == 0 {
			values[i], errs[i] = placed.Ref.Read(ctx, dir)
			continue
		}
		free <- struct{}{}
		running.Go(func() {
			values[i], errs[i] = placed.Ref.Read(ctx, dir)
			<-free
		})
	}
	running.Wait()
	for i, err := range errs {
		if err != nil {
			r.Errorf(refs[i].Path, "%v", err)
		}
	}
	return values
}

// ResolveSecret reads one secret.
func ResolveSecret(
	ctx context.Context,
	r *schema.Report,
	path string,
	ref secret.Ref,
) secret.Secret {
	return ReadAll(ctx, r, []PlacedRef{{path, ref}})[0]
}

// checkShared reports a secret that two key stores share: whichever client has it can sign for both
// (A5).
func checkShared(
	r *schema.Report,
	c *Config,
	owners map[string]int,
	i, j int,
	value secret.Secret,
) {
	if value.Reveal() == "" {
		return
	}
	first, shared := owners[value.Reveal()]
	if !shared {
		owners[value.Reveal()] = i
		return
	}
	const message = "is also the secret access key of %s: anyone who knows it could sign for " +
		"both; create another with xks-proxy credentials new"
	path, other := SecretKeyPath(i, j), c.other(i, first, "")
	switch {
	// a second access key id for the same secret: pointless, and within one key store
	case first == i:
	case c.KeyStores[first].Owner != c.KeyStores[i].Owner:
		r.Errorf(path, message, other)
	default:
		r.Warnf(path, message, other)
	}
}

// CheckCredential reports a credential that is not valid or can be guessed (requirement A6).
func CheckCredential(r *schema.Report, path, id string, value secret.Secret) {
	if r.FailedAt(path) {
		return
	}
	credential := sigv4.Credential{AccessKeyID: id, SecretAccessKey: value.Reveal()}
	err := credential.Validate()
	if err != nil {
		r.Errorf(path, "%v", err)
		return
	}
	if reason := credential.Guessable(); reason != "" {
		r.Warnf(path, "can be guessed: %s", reason)
	}
}
