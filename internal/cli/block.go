package cli

// The block and unblock commands: the kill switch.

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/text"
)

const blockLong = `block makes a key store or a key unusable for AWS at once. The block survives reloads and
restarts, until "unblock" removes it. When the command returns, the next request is refused:
AWS KMS gets InvalidStateException, and its callers cannot encrypt or decrypt with the key.

AWS keeps data keys that it has already decrypted in memory, some of them for as long as they
are in use: see "The kill switch" in docs/operations.md.

Exit code 0: it is blocked. 1: it is not, or the block would not survive a restart. The message
says which.`

const unblockLong = `unblock removes a block that "block" made.
Whatever the configuration blocks stays blocked.

Exit code 0: it is not blocked. 1: it is still blocked. The message says why.`

const blockKeyLong = `key blocks a key. With --key-store, KEY is an external key id of that key store. Without, KEY is a
CKA_LABEL, and every key with that label is blocked, in every key store. Names are exact.`

// blockFlags are those of one order.
type blockFlags struct {
	command.ProxyFlags
	killswitch.BlockTarget
	reason string
	force  bool
}

func newBlockCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "block", Short: "Block a key store or a key at once", Long: blockLong,
		Example: `  xks-proxy block key-store finance --reason "case 4711"
  xks-proxy block key payroll-7 --key-store finance
  xks-proxy block key finance-payroll-production
  xks-proxy block list`,
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(
		newBlockKeyStoreCommand(http.MethodPost),
		newBlockKeyCommand(http.MethodPost),
		newBlockListCommand(),
	)
	return c
}

func newUnblockCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "unblock", Short: "Remove a block", Long: unblockLong,
		Example: `  xks-proxy unblock key-store finance --reason "case 4711 is closed"
  xks-proxy unblock key payroll-7 --key-store finance`,
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(newBlockKeyStoreCommand(http.MethodDelete), newBlockKeyCommand(http.MethodDelete))
	return c
}

func newBlockKeyStoreCommand(method string) *cobra.Command {
	f := &blockFlags{}
	c := &cobra.Command{
		Use: "key-store NAME", Short: "Block a key store: all its requests are refused",
		Long: "key-store blocks a key store: all its requests are answered InvalidStateException.",
		Args: oneName("which key store? Give its name"),
		RunE: func(c *cobra.Command, args []string) error {
			f.KeyStore = args[0]
			return f.order(c, method)
		},
	}
	if method == http.MethodDelete {
		c.Short = "Remove the block of a key store"
		c.Long = "key-store removes the block of a key store. Blocks of single keys stay in effect."
	}
	f.Register(c)
	c.ValidArgsFunction = command.OnlyFirst(f.CompleteKeyStores())
	c.Flags().
		StringVar(&f.reason, "reason", "", "why, for the log and the list: `TEXT` of at most 500 bytes")
	if method == http.MethodPost {
		c.Flags().BoolVar(&f.force, "force", false, "block even if the key store does not exist")
	}
	return c
}

func newBlockKeyCommand(method string) *cobra.Command {
	f := &blockFlags{}
	c := &cobra.Command{
		Use: "key KEY", Short: "Block a key: Encrypt and Decrypt are refused", Long: blockKeyLong,
		Args: oneName("which key? Give its CKA_LABEL, or its external key id and --key-store"),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("key-store") && f.KeyStore == "" {
				return command.UsageError(
					errors.New("--key-store is empty; without it KEY is a CKA_LABEL"),
				)
			}
			f.Key = args[0]
			return f.order(c, method)
		},
	}
	if method == http.MethodDelete {
		c.Short = "Remove the block of a key"
		c.Long = "key removes the block of a key. Name the key as you did when you blocked it: " +
			"by external key\nid and --key-store, or by CKA_LABEL alone."
	}
	f.Register(c)
	c.ValidArgsFunction = command.OnlyFirst(f.CompleteKeys(&f.KeyStore))
	c.Flags().
		StringVar(&f.KeyStore, "key-store", "", "KEY is an external key id of the key store `NAME`")
	command.CompleteFlag(c, "key-store", f.CompleteKeyStores())
	c.Flags().
		StringVar(&f.reason, "reason", "", "why, for the log and the list: `TEXT` of at most 500 bytes")
	if method == http.MethodPost {
		c.Flags().BoolVar(&f.force, "force", false, "block even if the key store does not exist")
	}
	return c
}

// oneName refuses a command line without exactly one name.
func oneName(question string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0 || args[0] == "":
			return fmt.Errorf("%s: %s", question, c.UseLine())
		case len(args) > 1:
			return fmt.Errorf(
				"one at a time, not %d; a reason of several words needs quotes",
				len(args),
			)
		}
		return nil
	}
}

// order sends the order and prints the answer. What the proxy would refuse for its form is refused
// here, as wrong usage.
func (f *blockFlags) order(c *cobra.Command, method string) error {
	err := errors.Join(f.Check(), killswitch.CheckReason(f.reason))
	if err != nil {
		return command.UsageError(err)
	}
	client, err := f.Client()
	if err != nil {
		return err
	}
	query := url.Values{
		"key_store": {f.KeyStore},
		"key":       {f.Key},
		"reason":    {f.reason},
		"force":     {strconv.FormatBool(f.force)},
	}
	message, body, err := client.Change(c.Context(), method, api.BlocksPath, query, api.Patience)
	if err != nil {
		return err
	}
	return f.Say(c.OutOrStdout(), body, func(p *text.Page) { p.WriteString(message + "\n") })
}

func newBlockListCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	c := &cobra.Command{
		Use: "list", Short: "Print what is blocked, since when, by whom and why",
		Long: `list prints what operators have blocked, and the key stores that the configuration blocks.`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			list, body, err := client.Blocks(c.Context())
			if err != nil {
				return err
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { printBlocks(p, *list, time.Now()) },
			)
		},
	}
	f.RegisterArgument(c)
	return c
}
