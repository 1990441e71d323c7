package cli

// `demo`: the proxy at work on two software HSMs.

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/demo"
)

const demoLong = `demo shows the proxy at work. It makes two SoftHSM tokens that hold the same keys, a
certificate, a credential and a configuration file, all in one directory; starts the
proxy; asks it for everything that AWS KMS asks; prints what "xks-proxy status" shows; and
serves until Ctrl-C. Run again, it serves the same keys from the same directory.

The directory holds, among others:
  xks-proxy.yaml    a complete configuration to copy and edit
  connection.json   endpoint and credential, for any XKS client (secret)
  xks-proxy.log     what the proxy logged

It is for trying things out: the keys are made in memory and put on both tokens. Real
pairs of HSMs replicate keys by their vendor's own means.`

const demoExample = `  xks-proxy demo                           two tokens and keys, 127.0.0.1:8443
  xks-proxy demo --listen 127.0.0.1:0      on a free port
  xks-proxy demo --exit                    end after the checks, with 0 or 1
  xks-proxy demo --prepare-only            only write the directory`

func newDemoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:     "demo",
		Short:   "Show the proxy at work on two software HSMs",
		Long:    demoLong,
		Example: demoExample,
		Args:    command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			err := o.Check(c.Flags().Changed("keys"))
			if err != nil {
				return command.UsageError(err)
			}
			err = demo.Run(c.Context(), o, c.OutOrStdout())
			var address *demo.AddressError
			if errors.As(err, &address) {
				return command.UsageError(err)
			}
			return err
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(
		&o.Dir,
		"dir",
		demo.DefaultDirectory,
		"`directory` for everything the demo makes",
	)
	flags.StringVar(
		&o.Listen,
		"listen",
		"",
		"`address` to serve at; port 0: a free one (default "+demo.DefaultListen+")",
	)
	flags.StringVar(&o.Health, "health-listen", "",
		"`address` of health and metrics (default "+demo.DefaultHealthListen+" or a free one)")
	flags.IntVar(
		&o.Keys,
		"keys",
		0,
		"`number` of keys demo-key-1, demo-key-2, … (default 2, or as before)",
	)
	flags.BoolVar(&o.PrepareOnly, "prepare-only", false, "write the directory and start nothing")
	flags.BoolVar(&o.Exit, "exit", false, "end after the checks: 0 if all went well, 1 if not")
	flags.StringVar(&o.Module, "module", "", "`path` of libsofthsm2.so (default: searched for)")
	c.AddCommand(newDemoTokenCommand())
	return c
}

// newDemoTokenCommand is the child's side.
func newDemoTokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "make-token",
		Short:  "Make one token of the demo as the order on standard input says",
		Hidden: true,
		Args:   command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := io.ReadAll(c.InOrStdin())
			if err != nil {
				return fmt.Errorf("the order cannot be read: %w", err)
			}
			defer clear(data)
			return demo.CarryOutOrder(c.Context(), data)
		},
	}
}
