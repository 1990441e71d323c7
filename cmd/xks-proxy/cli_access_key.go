package main

// One access key of a configuration, for the commands that sign or export: no other secret is read.

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/secret"
)

// keyStoreChoice is how a command line names an access key.
type keyStoreChoice struct {
	configFlag
	store       string // "": the only one
	accessKeyID string // "": the only one
}

// register adds --config, --key-store and --access-key-id.
func (k *keyStoreChoice) register(c *cobra.Command) {
	k.configFlag.register(c)
	c.Flags().
		StringVar(&k.store, "key-store", "", "`NAME` of the key store (needed if there are several)")
	c.Flags().StringVar(&k.accessKeyID, "access-key-id", "",
		"`ID` of the access key (needed if the key store has several)")
	completeFlag(c, "key-store", k.complete(configuredKeyStores))
	completeFlag(c, "access-key-id", k.complete(configuredAccessKeys))
}

// load reads the configuration, but no secret and none of the files that it names.
func (k *keyStoreChoice) load() (*loaded, keyStoreConfig, error) {
	path, err := k.path()
	if err != nil {
		return nil, keyStoreConfig{}, err
	}
	l, err := loadFile(path)
	if err != nil {
		return nil, keyStoreConfig{}, err
	}
	err = l.report.err()
	if err != nil {
		return nil, keyStoreConfig{}, err
	}
	store, err := chooseKeyStore(l.config, k.store)
	return l, store, err
}

// accessKey reads the secret of the access key that is meant.
func (k *keyStoreChoice) accessKey(
	ctx context.Context, warnings io.Writer, l *loaded, store keyStoreConfig, writesFiles bool,
) (accessKey, error) {
	n, err := chooseAccessKey(store, k.accessKeyID)
	if err != nil {
		return accessKey{}, err
	}
	i := slices.IndexFunc(
		l.config.KeyStores,
		func(other keyStoreConfig) bool { return other.Name == store.Name },
	)
	id, path := store.Credentials[n].AccessKeyID, secretKeyPath(i, n)
	refs := []placedRef{{path: path, ref: store.Credentials[n].SecretAccessKey}}
	secret.TakeVariables(withoutPlaces(refs)...)
	r := newReport(l.config.source)
	value := readAll(ctx, r, refs)[0]
	checkCredential(r, path, id, value)
	for _, w := range r.warnings {
		fmt.Fprintf(warnings, "warning: %s\n", w)
	}
	err = r.err()
	if err == nil {
		return accessKey{ID: id, Secret: value}, nil
	}
	advice := needsSystemd(ctx, refs, writesFiles)
	if advice == "" {
		return accessKey{}, err
	}
	return accessKey{}, fmt.Errorf("%w\n%s", err, advice)
}

// chooseAccessKey is the number of the access key that is meant.
func chooseAccessKey(store keyStoreConfig, id string) (int, error) {
	var ids []string
	for n, key := range store.Credentials {
		if key.AccessKeyID == id || id == "" && len(store.Credentials) == 1 {
			return n, nil
		}
		ids = append(ids, key.AccessKeyID)
	}
	if id == "" {
		return 0, usageError(
			fmt.Errorf("which access key? --access-key-id takes %s", strings.Join(ids, ", ")),
		)
	}
	return 0, fmt.Errorf(
		"key store %s has no access key with that id; it has %s",
		store.Name,
		strings.Join(ids, ", "),
	)
}
