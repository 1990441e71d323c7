package cli

// The keys command: the keys of a running proxy.

import (
	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
)

const keysListLong = `list prints every version of every key that the HSMs of a running proxy hold, as they
were last listed ("hsm refresh" lists them now):

  VERSION  as key_version of the HSM group reads it from CKA_ID; * marks the version that new
           ciphertexts are made under; - is a key that is not AES-256
  STATE    complete, or what is wrong (below the row it says why, and what to do):
             differs   the HSMs hold different key material, or one may not do what another may
             doubtful  CKA_ID does not say which version it is
             missing   from an HSM of the group
             unusable  not AES-256
             unknown   the keys of an HSM were never listed, or it does not let the key be read
  HSMS     how many HSMs hold it, of those in the group that could be listed
  USAGE    which of encrypt and decrypt every HSM allows

Labels with characters that do not print are shown as quoted strings, such as "key\x00".`

func newKeysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Show the keys of a running proxy",
		Long: "keys shows the keys of a running proxy, through its admin socket (admin.socket " +
			"of its\nconfiguration).",
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(newKeysListCommand())
	return c
}

func newKeysListCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	var q api.KeyQuery
	var attributes bool
	c := &cobra.Command{
		Use:   "list",
		Short: "Print all keys, their versions, and whether every HSM holds them",
		Long:  keysListLong,
		Example: `  xks-proxy keys list
  xks-proxy keys list --key-store finance --state missing
  xks-proxy keys list --label 'finance-*' --attributes`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			answer, body, err := client.Keys(c.Context(), q)
			if err != nil {
				return err
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { printKeys(p, answer, attributes) },
			)
		},
	}
	f.RegisterArgument(c)
	flags := c.Flags()
	flags.StringVar(&q.KeyStore, "key-store", "", "only keys that the key store `NAME` reaches")
	flags.StringVar(
		&q.Label,
		"label",
		"",
		"only keys whose label matches `PATTERN`; * and ? stop at a /",
	)
	flags.StringVar(&q.State, "state", "", "only versions in this `STATE`")
	flags.StringVar(&q.Group, "group", "", "only keys of the HSM group `NAME`")
	command.CompleteFlag(c, "key-store", f.CompleteKeyStores())
	command.CompleteFlag(c, "group", f.CompleteGroups())
	command.CompleteFlag(c, "state", command.CompleteStates)
	flags.BoolVar(
		&attributes,
		"attributes",
		false,
		"print the CKA_ID and the attributes on each HSM",
	)
	return c
}
