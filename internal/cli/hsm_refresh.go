package cli

// `hsm refresh`: list the keys now.

import (
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
)

func newHSMRefreshCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	var wait time.Duration
	c := &cobra.Command{
		Use:   "refresh [NAME]",
		Short: "List the keys of an HSM now and print what has changed",
		Long: `refresh lists the keys of an HSM now, waits until that is done and prints what has changed.
Without a NAME it lists the keys of every HSM. The proxy does the same every
catalogue_interval; use refresh after you created or copied keys and do not want to wait.

Exit code 0: the keys were listed. 1: those of an HSM could not be, or not within --timeout.`,
		Example: "  xks-proxy hsm refresh\n  xks-proxy hsm refresh hsm-b --timeout 2m",
		Args:    command.AtMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			err := checkWait(wait)
			if err != nil {
				return err
			}
			client, err := f.Client()
			if err != nil {
				return err
			}
			path, name := api.RefreshAllPath, ""
			if len(args) == 1 && args[0] != "" {
				path, name = api.RefreshPath, args[0]
			}
			message, body, err := client.Order(c.Context(), path, name, false, wait)
			if err != nil {
				return err
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { p.WriteString(message + "\n") },
			)
		},
	}
	f.Register(c)
	c.ValidArgsFunction = command.OnlyFirst(f.CompleteHSMs())
	c.Flags().DurationVar(&wait, "timeout", socket.Wait, "how long to wait for the HSMs")
	return c
}
