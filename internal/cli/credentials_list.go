package cli

// `credentials list`: which access keys there are, and when each was last used.

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
)

func newCredentialsListCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	var store string
	c := &cobra.Command{
		Use: "list", Short: "Print when each access key was last used",
		Long: `list prints the access keys of a running proxy and when AWS KMS last signed with each, by the
proxy's clock. With a state_directory, this survives restarts, except for the last minute before
a crash. An old access key is safe to remove when it has not been used for some ten minutes while
the new one was. If you run several proxies, each knows only its own requests.`,
		Example: "  xks-proxy credentials list --key-store finance",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			var uses api.CredentialUses
			body, err := client.Get(c.Context(), api.CredentialsPath, &uses)
			if err != nil {
				return err
			}
			if store != "" {
				body, err = credentialsOf(&uses, store)
				if err != nil {
					return err
				}
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { printCredentials(p, uses, time.Now()) },
			)
		},
	}
	f.RegisterArgument(c)
	c.Flags().StringVar(&store, "key-store", "", "only those of the key store `NAME`")
	command.CompleteFlag(c, "key-store", f.CompleteKeyStores())
	return c
}

func printCredentials(p *text.Page, uses api.CredentialUses, now time.Time) {
	if len(uses.Credentials) == 0 {
		p.WriteString("The proxy is starting: it serves no key store yet.\n")
		return
	}
	t := text.NewTable("KEY STORE", "ACCESS KEY ID", "LAST USED")
	for _, c := range uses.Credentials {
		last := "not since " + text.Time(uses.Since)
		if !c.LastUsed.IsZero() {
			last = text.Duration(
				max(0, now.Sub(c.LastUsed)),
			) + " ago (" + text.Time(
				c.LastUsed,
			) + ")"
		}
		t.Row(c.KeyStore, c.AccessKeyID, last)
	}
	p.Table(t)
}

// credentialsOf keeps the credentials of one key store, and returns the JSON of these.
func credentialsOf(u *api.CredentialUses, store string) ([]byte, error) {
	var names []string
	var kept []api.CredentialUse
	for _, c := range u.Credentials {
		if c.KeyStore == store {
			kept = append(kept, c)
		}
		if !slices.Contains(names, c.KeyStore) {
			names = append(names, c.KeyStore)
		}
	}
	if kept == nil && len(names) > 0 {
		return nil, fmt.Errorf(
			"the proxy serves no key store %q; %s",
			store,
			text.DidYouMean(store, names),
		)
	}
	u.Credentials = kept
	body, err := json.Marshal(u)
	return append(body, '\n'), err
}
