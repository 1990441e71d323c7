package main

// The credentials command: a new pair for a key store (cmd_credentials_new.go), when each was last used, and the
// file that AWS's console imports (requirements A6, A10). A secret goes to a file of its owner only,
// never to the terminal or the log.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

func newCredentialsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "credentials",
		Short: "Make access keys, and hand them to AWS",
		Long: `AWS KMS signs its requests with an access key of the key store. "new" makes one and says how it
takes the place of the old one; "list" says when each was last used; "export" writes one as the
file that the AWS console takes when an external key store is created or edited.`,
		Args: cobra.ArbitraryArgs, // commandOrHelp says what is wrong with them
		RunE: commandOrHelp,
	}
	c.AddCommand(newCredentialsNewCommand(), newCredentialsListCommand(), newCredentialsExportCommand())
	return c
}

// consoleFile is the configuration file that the AWS console imports ("XKS proxy
// configuration in AWS KMS console" of the specification).
type consoleFile struct {
	URIPath    string           `json:"XksProxyUriPath"`
	Credential connectionSecret `json:"XksProxyAuthenticationCredential"`
}

// writeConsoleFile writes the file of requirement A10, which must not exist.
func writeConsoleFile(path, prefix string, credential sigv4.Credential) error {
	text, err := json.MarshalIndent(consoleFile{
		URIPath:    xks.URIPath(prefix),
		Credential: connectionSecret{AccessKeyID: credential.AccessKeyID, SecretAccessKey: credential.SecretAccessKey},
	}, "", "  ")
	if err != nil {
		return err
	}
	return createPrivate(path, append(text, '\n'))
}

func newCredentialsExportCommand() *cobra.Command {
	var config, store, id string
	c := &cobra.Command{
		Use:   "export FILE --key-store NAME",
		Short: "Write the file that the AWS console imports",
		Long: `export writes the XksProxyUriPath of a key store and one of its access keys to
FILE, which must not exist (mode 0600): import it in the AWS console when you create
or edit the external key store, then delete it.`,
		Example: "  xks-proxy credentials export finance.json --config xks-proxy.yaml --key-store finance",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := configPath(config)
			if err != nil {
				return err
			}
			return exportCredential(c, path, store, id, args[0])
		},
	}
	c.Flags().StringVar(&config, "config", "", "configuration file (or set XKS_CONFIG)")
	c.Flags().StringVar(&store, "key-store", "", "name of the key store (needed if there are several)")
	c.Flags().StringVar(&id, "access-key-id", "", "which of its access keys (needed if there are several)")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	return c
}

func exportCredential(c *cobra.Command, path, store, id, output string) error {
	conf, _, err := loadConfig(path)
	if err != nil {
		return err
	}
	chosen, err := chooseKeyStore(conf, store)
	if err != nil {
		return err
	}
	secrets, _, err := resolveSecrets(c.Context(), conf)
	if err != nil {
		return err
	}
	key, err := chooseAccessKey(chosen.Name, secrets.AccessKeys[chosen.Name], id)
	if err != nil {
		return err
	}
	err = writeConsoleFile(output, chosen.PathPrefix, sigv4.Credential{AccessKeyID: key.ID, SecretAccessKey: key.Secret.reveal()})
	if err != nil {
		return err
	}
	return sayExported(c.OutOrStdout(), output, chosen, key)
}

func sayExported(w io.Writer, output string, store keyStoreConfig, key accessKey) error {
	_, err := fmt.Fprintf(w, "%s holds %s and access key %s of key store %s.\nIt is a secret: delete it once AWS has it.\n",
		output, xks.URIPath(store.PathPrefix), key.ID, store.Name)
	return err
}

func chooseKeyStore(c *config, name string) (keyStoreConfig, error) {
	var names []string
	for _, k := range c.KeyStores {
		if k.Name == name || name == "" && len(c.KeyStores) == 1 {
			return k, nil
		}
		names = append(names, k.Name)
	}
	if name == "" {
		return keyStoreConfig{}, usageError(fmt.Errorf("which key store? --key-store takes %s", strings.Join(names, ", ")))
	}
	return keyStoreConfig{}, fmt.Errorf("there is no key store named %q; there are %s", name, strings.Join(names, ", "))
}

func chooseAccessKey(store string, keys []accessKey, id string) (accessKey, error) {
	var ids []string
	for _, key := range keys {
		if key.ID == id || id == "" && len(keys) == 1 {
			return key, nil
		}
		ids = append(ids, key.ID)
	}
	if id == "" {
		return accessKey{}, usageError(fmt.Errorf("which access key? --access-key-id takes %s", strings.Join(ids, ", ")))
	}
	return accessKey{}, fmt.Errorf("key store %s has no access key with that id; it has %s", store, strings.Join(ids, ", "))
}

// createPrivate writes a new file that only its owner can read. An existing one is
// left alone: it may be the only copy of a secret in use.
func createPrivate(path string, content []byte) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already and is left as it is; choose another name", path)
	}
	if err != nil {
		return fmt.Errorf("the file cannot be made: %w", err)
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Sync(), file.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("%s cannot be written: %w", path, err), os.Remove(path))
	}
	return nil
}
