package main

// `hsm refresh`: list the keys now.

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

func newHSMRefreshCommand() *cobra.Command {
	f := &proxyFlags{}
	var wait time.Duration
	c := &cobra.Command{
		Use:   "refresh [NAME]",
		Short: "List the keys of an HSM now, and print what has changed",
		Long: `refresh lists the keys of an HSM now, waits until that is done and prints what has changed.
Without a NAME it lists the keys of every HSM. The proxy does the same every
catalogue_interval; use refresh after you created or copied keys and do not want to wait.

Exit code 0: the keys were listed. 1: those of an HSM could not be, or not within --timeout.`,
		Example: "  xks-proxy hsm refresh\n  xks-proxy hsm refresh hsm-b --timeout 2m",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			if wait <= 0 || wait > adminMaxWait {
				return usageError(fmt.Errorf("--timeout %s is out of range: use up to %s", wait, adminMaxWait))
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			path, name := adminRefreshAllPath, ""
			if len(args) == 1 && args[0] != "" {
				path, name = adminRefreshPath, args[0]
			}
			message, body, err := client.order(c.Context(), path, name, false, wait)
			if err != nil {
				return err
			}
			return f.say(c.OutOrStdout(), body, func(p *text.Page) { p.WriteString(message + "\n") })
		},
	}
	f.register(c)
	c.ValidArgsFunction = onlyFirst(f.completeHSMs())
	c.Flags().DurationVar(&wait, "timeout", adminWait, "how long to wait for the HSMs")
	return c
}
