package command

// One access key of a configuration, for the commands that sign or export: no other secret is read.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
)

// KeyStoreChoice is how a command line names an access key.
type KeyStoreChoice struct {
	ConfigFlag
	Store       string // "": the only one
	AccessKeyID string // "": the only one
}

// Register adds --config, --key-store and --access-key-id.
func (k *KeyStoreChoice) Register(c *cobra.Command) {
	k.ConfigFlag.Register(c)
	c.Flags().
		StringVar(&k.Store, "key-store", "", "`NAME` of the key store (needed if there are several)")
	c.Flags().StringVar(&k.AccessKeyID, "access-key-id", "",
		"`ID` of the access key (needed if the key store has several)")
	CompleteFlag(c, "key-store", k.Complete(ConfiguredKeyStores))
	CompleteFlag(c, "access-key-id", k.Complete(configuredAccessKeys))
}

// Load reads the configuration, but no secret and none of the files that it names.
func (k *KeyStoreChoice) Load() (*config.Loaded, config.KeyStore, error) {
	path, err := k.Path()
	if err != nil {
		return nil, config.KeyStore{}, err
	}
	l, err := config.LoadFile(path)
	if err != nil {
		return nil, config.KeyStore{}, err
	}
	err = l.Report.Err()
	if err != nil {
		return nil, config.KeyStore{}, err
	}
	store, err := ChooseKeyStore(l.Config, k.Store)
	return l, store, err
}

// AccessKey reads the secret of the access key that is meant.
func (k *KeyStoreChoice) AccessKey(
	ctx context.Context,
	warnings io.Writer,
	l *config.Loaded,
	store config.KeyStore,
	writesFiles bool,
) (config.AccessKey, error) {
	n, err := chooseAccessKey(store, k.AccessKeyID)
	if err != nil {
		return config.AccessKey{}, err
	}
	i := slices.IndexFunc(
		l.Config.KeyStores,
		func(other config.KeyStore) bool { return other.Name == store.Name },
	)
	id, path := store.Credentials[n].AccessKeyID, config.SecretKeyPath(i, n)
	refs := []config.PlacedRef{{Path: path, Ref: store.Credentials[n].SecretAccessKey}}
	secret.TakeVariables(config.WithoutPlaces(refs)...)
	r := schema.NewReport(l.Config.Source)
	value := config.ReadAll(ctx, r, refs)[0]
	config.CheckCredential(r, path, id, value)
	for _, w := range r.Warnings {
		fmt.Fprintf(warnings, "warning: %s\n", w)
	}
	err = r.Err()
	if err == nil {
		return config.AccessKey{ID: id, Secret: value}, nil
	}
	advice := NeedsSystemd(ctx, refs, writesFiles)
	if advice == "" {
		return config.AccessKey{}, err
	}
	return config.AccessKey{}, fmt.Errorf("%w\n%s", err, advice)
}

// chooseAccessKey is the number of the access key that is meant.
func chooseAccessKey(store config.KeyStore, id string) (int, error) {
	var ids []string
	for n, key := range store.Credentials {
		if key.AccessKeyID == id || id == "" && len(store.Credentials) == 1 {
			return n, nil
		}
		ids = append(ids, key.AccessKeyID)
	}
	if id == "" {
		return 0, UsageError(
			fmt.Errorf("which access key? --access-key-id takes %s", strings.Join(ids, ", ")),
		)
	}
	return 0, fmt.Errorf(
		"key store %s has no access key with that id; it has %s",
		store.Name,
		strings.Join(ids, ", "),
	)
}

// ChooseKeyStore returns the key store of that name; with "" the only one. Its errors name all.
func ChooseKeyStore(c *config.Config, name string) (config.KeyStore, error) {
	var names []string
	for _, k := range c.KeyStores {
		if k.Name == name || name == "" && len(c.KeyStores) == 1 {
			return k, nil
		}
		names = append(names, k.Name)
	}
	if name == "" {
		return config.KeyStore{}, UsageError(
			fmt.Errorf("which key store? --key-store takes %s", strings.Join(names, ", ")),
		)
	}
	return config.KeyStore{}, fmt.Errorf(
		"there is no key store named %q; there are %s",
		name,
		strings.Join(names, ", "),
	)
}
