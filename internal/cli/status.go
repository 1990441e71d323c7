package cli

// The status command: the whole proxy on one screen.

import (
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
)

const statusLong = `status prints the whole proxy on one screen: what needs attention first, then the configuration,
the HSMs, the certificates, the key stores and what is blocked.

  STATE      of a key store: enabled, or blocked and by whom
  REQUESTS   answered since the start of the proxy, reloads included
  FAILED     of these, those answered with an error other than ThrottlingException
  THROTTLED  of these, those answered ThrottlingException

It shows 20 key stores, those with problems first; --all shows all. --json prints everything.

Exit codes:
  0  nothing needs attention, or only what operators did on purpose (info)
  1  the proxy did not answer
  2  the command line is wrong
  3  warning: an HSM is out or not ACTIVE, keys differ, a certificate ends soon,
     the last reload failed, an HSM has been drained for more than a day
  4  critical: the proxy is not ready, no HSM of a group serves, a key differs
     between its HSMs or is there twice, a token changed, a certificate has
     ended or is about to, lines of the log are lost, a block is not saved`

// Exit codes of status, besides those of every command: monitoring must be able to distinguish
// "critical" from "no answer" and from an error in its command line.
const (
	exitWarning  = 3
	exitCritical = 4
)

var severityExit = map[api.Severity]int{api.Warning: exitWarning, api.Critical: exitCritical}

func newStatusCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	var all bool
	c := &cobra.Command{
		Use: "status", Short: "Show the state of a running proxy on one screen", Long: statusLong,
		Example: "  xks-proxy status\n  xks-proxy status --json | jq -r '.attention[]?.text'",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			var status api.Status
			body, err := client.Get(c.Context(), api.StatusPath, &status)
			if err != nil {
				return err
			}
			err = f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { printStatus(p, &status, all, time.Now()) },
			)
			if code := severityExit[api.Worst(status.Attention)]; err == nil && code != 0 {
				return command.ExitError{Code: code} // the output says why
			}
			return err
		},
	}
	f.RegisterArgument(c)
	c.Flags().BoolVar(&all, "all", false, "show all key stores and blocks, not 20 of them")
	return c
}
