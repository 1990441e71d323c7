package cli

// The credentials command: a new pair for a key store (credentials_new.go), when each was last
// used, and the file that AWS's console imports (requirements A6, A10). A secret goes to a file of
// its owner only, never to the terminal or the log.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/xksclient"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

func newCredentialsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "credentials",
		Short: "Create access keys and export them for AWS",
		Long: `AWS KMS signs its requests with an access key of the key store. "new" makes one and says how it
takes the place of the old one; "list" says when each was last used; "export" writes one as the
file that the AWS console takes when an external key store is created or edited.`,
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(
		newCredentialsNewCommand(),
		newCredentialsListCommand(),
		newCredentialsExportCommand(),
	)
	return c
}

// consoleFile is the configuration file that the AWS console imports ("XKS proxy
// configuration in AWS KMS console" of the specification).
type consoleFile struct {
	URIPath    string                     `json:"XksProxyUriPath"`
	Credential xksclient.ConnectionSecret `json:"XksProxyAuthenticationCredential"`
}

// writeConsoleFile writes the file of requirement A10, which must not exist.
func writeConsoleFile(path, prefix string, credential sigv4.Credential) error {
	text, err := json.MarshalIndent(consoleFile{
		URIPath: xks.URIPath(prefix),
		Credential: xksclient.ConnectionSecret{
			AccessKeyID:     credential.AccessKeyID,
			SecretAccessKey: credential.SecretAccessKey,
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	return createPrivate(path, append(text, '\n'))
}

func newCredentialsExportCommand() *cobra.Command {
	k := &command.KeyStoreChoice{}
	var asJSON bool
	c := &cobra.Command{
		Use:   "export FILE",
		Short: "Write the file that the AWS console imports",
		Long: `export writes the XksProxyUriPath of a key store and one of its access keys to
FILE, which must not exist (mode 0600): import it in the AWS console when you create
or edit the external key store, then delete it. Of all secrets in the configuration
it reads only this one.`,
		Example: "  xks-proxy credentials export finance.json --key-store finance",
		Args:    command.OneArgument("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return exportKey(c, k, args[0], asJSON)
		},
	}
	c.Flags().SortFlags = false
	k.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON (the secret is only in FILE)")
	return c
}

// exported is what export did, without the secret.
type exported struct {
	File        string `json:"file"`
	KeyStore    string `json:"keyStore"`
	URIPath     string `json:"uriPath"`
	AccessKeyID string `json:"accessKeyId"`
}

// exportKey writes the access key that is meant as the AWS console takes it.
func exportKey(c *cobra.Command, k *command.KeyStoreChoice, output string, asJSON bool) error {
	l, store, err := k.Load()
	if err != nil {
		return err
	}
	key, err := k.AccessKey(c.Context(), c.ErrOrStderr(), l, store, true)
	if err != nil {
		return err
	}
	err = writeConsoleFile(
		output,
		store.PathPrefix,
		sigv4.Credential{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal()},
	)
	if err != nil {
		return err
	}
	e := exported{
		File:        output,
		KeyStore:    store.Name,
		URIPath:     xks.URIPath(store.PathPrefix),
		AccessKeyID: key.ID,
	}
	if asJSON {
		return command.WriteJSON(c.OutOrStdout(), e)
	}
	_, err = fmt.Fprintf(
		c.OutOrStdout(),
		"%s holds %s and access key %s of key store %s.\nIt is a secret: delete it once AWS has "+
			"it.\n",
		e.File,
		e.URIPath,
		e.AccessKeyID,
		e.KeyStore,
	)
	return err
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
