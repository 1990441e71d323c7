package cli

import (
	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/server"
)

const serveLong = `serve answers AWS KMS over HTTPS until it is stopped.

It starts one process for each HSM, logs in, lists the keys and probes every HSM
before it takes the first request. With one HSM of several away it serves from the
others and says so in the log. On SIGTERM or Ctrl-C it answers what is in flight and ends.`

func newServeCommand() *cobra.Command {
	var f command.ConfigFlag
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Serve AWS KMS",
		Long:    serveLong,
		Example: "  xks-proxy serve\n  xks-proxy serve ./xks-proxy.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := f.Path()
			if err != nil {
				return err
			}
			return server.Endable(
				c.Context(),
				server.StartEndLimit,
				func(serving func()) error { return server.Run(c.Context(), file, serving) },
			)
		},
	}
	f.RegisterArgument(c)
	return c
}
