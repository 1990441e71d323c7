package cli

// `credentials new`: a new access key, the file in which AWS takes it (A10), and the steps of a
// rotation in which no request fails (A5).

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/sigv4"
)

const credentialsNewLong = `new makes an access key id and a secret access key of 256 random bits each on its own, and writes
the secret to SECRET-FILE (which must not exist; mode 0600).

With --key-store it also writes the file that AWS takes (mode 0600; by default SECRET-FILE.json),
and prints the steps that put the new access key in the place of the old one without a failed
request. Without it, the command prints what to put under "credentials" of the
key store. The secret itself is never printed.`

// newCredential holds the arguments of `credentials new`.
type newCredential struct {
	command.ConfigFlag
	keyStore, console string
	secretFile        string // absolute
	json              bool
}

func newCredentialsNewCommand() *cobra.Command {
	n := &newCredential{}
	c := &cobra.Command{
		Use: "new SECRET-FILE", Short: "Create an access key and print the steps of the rotation", Long: credentialsNewLong,
		Example: `  xks-proxy credentials new finance-2.secret --key-store finance
  xks-proxy credentials new finance.secret`,
		Args: command.OneArgument("SECRET-FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			n.secretFile, err = filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if n.keyStore == "" && (n.File != "" || n.console != "") {
				return command.UsageError(errors.New("which key store? Name it (--key-store)"))
			}
			return n.run(c)
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(
		&n.keyStore,
		"key-store",
		"",
		"`NAME` of the key store that the access key is for",
	)
	command.CompleteFlag(c, "key-store", n.Complete(command.ConfiguredKeyStores))
	n.ConfigFlag.Register(c)
	flags.BoolVar(
		&n.json,
		"json",
		false,
		"print JSON instead of the steps (the secret is only in the files)",
	)
	flags.StringVar(
		&n.console,
		"console",
		"",
		"`FILE` for AWS, which must not exist, instead of SECRET-FILE.json",
	)
	return c
}

func (n *newCredential) run(c *cobra.Command) error {
	credential, err := sigv4.GenerateCredential()
	if err != nil {
		return err
	}
	secret := []byte(credential.SecretAccessKey + "\n")
	if n.keyStore == "" {
		err = createPrivate(n.secretFile, secret)
		if err != nil {
			return err
		}
		if n.json {
			return command.WriteJSON(c.OutOrStdout(), n.made(credential.AccessKeyID))
		}
		_, err = fmt.Fprintln(
			c.OutOrStdout(),
			strings.Join(credentialLines(credential.AccessKeyID, n.secretFile), "\n"),
		)
		return err
	}
	path, err := n.Path()
	if err != nil {
		return err
	}
	l, err := config.LoadFile(path)
	if err == nil {
		err = l.Report.Err()
	}
	if err != nil {
		return err
	}
	store, err := command.ChooseKeyStore(l.Config, n.keyStore)
	if err != nil {
		return err
	}
	if n.console == "" {
		n.console = n.secretFile + ".json"
	}
	err = createPrivate(n.secretFile, secret)
	if err != nil {
		return err
	}
	err = writeConsoleFile(n.console, store.PathPrefix, credential)
	if err != nil {
		return errors.Join(err, os.Remove(n.secretFile)) // so that the command can be given again
	}
	if n.json {
		return command.WriteJSON(c.OutOrStdout(), n.made(credential.AccessKeyID))
	}
	_, err = fmt.Fprint(c.OutOrStdout(), n.steps(l.Config, store, path, credential.AccessKeyID))
	return err
}

// madeCredential is a new access key without its secret.
type madeCredential struct {
	AccessKeyID string `json:"accessKeyId"`
	SecretFile  string `json:"secretFile"`
	KeyStore    string `json:"keyStore,omitempty"`
	Console     string `json:"console,omitempty"` // the file for AWS
}

func (n *newCredential) made(id string) madeCredential {
	return madeCredential{
		AccessKeyID: id,
		SecretFile:  n.secretFile,
		KeyStore:    n.keyStore,
		Console:     n.console,
	}
}

// credentialLines is an element of a key store's credentials.
func credentialLines(id, file string) []string {
	return []string{
		"- access_key_id: " + id,
		fmt.Sprintf("  secret_access_key: {file: %s}", yamlText(file)),
	}
}

// yamlText is a path inside { } of YAML, in quotes where it needs them.
func yamlText(s string) string {
	if strings.ContainsAny(s, " ,:{}[]#&*!|>'\"%@`\\") {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return s
}

// steps is a rotation in order. The secret is in none of them.
func (n *newCredential) steps(
	c *config.Config,
	store config.KeyStore,
	configFile, id string,
) string {
	i := slices.IndexFunc(c.KeyStores, func(k config.KeyStore) bool { return k.Name == store.Name })
	key := schema.StoreKey(i, "credentials")
	place, _, _ := strings.Cut(config.PlaceOf(c, key), ": ")
	file := n.secretFile
	inside, err := filepath.Rel(c.Source.DirOf(key), file)
	if err == nil && filepath.IsLocal(inside) {
		file = inside // a path in a file starts at the directory of that file
	}
	lines := credentialLines(id, file)
	return fmt.Sprintf(`Access key %[1]s for key store %[2]s. Its secret is in %[3]s.

1. Add it under "credentials" of the key store (%[4]s); the old one stays:

     %[5]s

2. Have every proxy of the fleet read its configuration:

     xks-proxy reload --config %[6]s

3. Tell AWS, in the account and region of the external key store
   ("aws kms describe-custom-key-stores" lists its id, cks-...):

     aws kms update-custom-key-store --custom-key-store-id cks-... --cli-input-json file://%[7]s

   or import that file in the AWS console. Then delete it: it holds the secret.

4. Wait until the old access key is no longer used. The hosts of AWS KMS switch over within about
   five minutes:

     xks-proxy credentials list --key-store %[2]s --config %[6]s

5. Remove the old access key from the configuration, reload again, and delete its secret.
`, id, store.Name, n.secretFile, place, strings.Join(lines, "\n     "), configFile, n.console)
}
