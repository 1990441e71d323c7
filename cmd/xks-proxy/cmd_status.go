package main

// The status command: the whole proxy on one screen.

import (
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

const statusLong = `status prints the whole proxy on one screen: what needs attention first, then the configuration,
the HSMs, the certificates, the key stores and what is blocked.

  STATE      of a key store: enabled, or blocked and by whom
  REQUESTS   answered since the start of the proxy, reloads included
  FAILED     of these, those answered with an error other than ThrottlingException
  THROTTLED  of these, those answered ThrottlingException

It shows 20 key stores, those with problems first; --all shows all. --json prints all there is.

Exit code 0: nothing needs attention. 1: something does (the proxy is not ready, an HSM is out,
drained or not ACTIVE, keys need attention, a certificate is bad or has less than 30 days left,
the last reload failed, a block would not survive a restart), or the proxy does not answer.
What is blocked on purpose does not count.`

func newStatusCommand() *cobra.Command {
	f := &proxyFlags{}
	var all bool
	c := &cobra.Command{
		Use: "status", Short: "The state of a running proxy on one screen", Long: statusLong,
		Example: "  xks-proxy status\n  xks-proxy status --json | jq .attention",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			var status proxyStatus
			body, err := client.get(c.Context(), adminStatusPath, &status)
			if err != nil {
				return err
			}
			err = f.say(c.OutOrStdout(), body, func(p *text.Page) { printStatus(p, &status, all, time.Now()) })
			if err == nil && len(status.Attention) > 0 {
				return exitError{code: exitFailed} // the output says why
			}
			return err
		},
	}
	f.registerArgument(c)
	c.Flags().BoolVar(&all, "all", false, "show all key stores and blocks, not 20 of them")
	return c
}
