package main

// The demo command: from nothing to a served, signed, encrypted key store on two
// software HSMs, all in one directory.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

const (
	defaultDemoDirectory = "demo"
	defaultDemoListen    = "127.0.0.1:8443"
	defaultDemoHealth    = "127.0.0.1:8080" // health.listen of the configuration, by default
	freeDemoHealth       = "127.0.0.1:0"
	defaultDemoKeys      = 2
	maxDemoKeys          = 100000
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

// demoOptions are the flags of demo.
type demoOptions struct {
	dir         string
	listen      string // "": as before, or the default
	health      string // "": as before, or the default, or a free port
	module      string // "": searched for
	keys        int    // 0: as before, or the default
	prepareOnly bool
	exit        bool
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:     "demo",
		Short:   "Show the proxy at work on two software HSMs",
		Long:    demoLong,
		Example: demoExample,
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			err := o.check(c)
			if err != nil {
				return usageError(err)
			}
			return runDemo(c.Context(), o, c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&o.dir, "dir", defaultDemoDirectory, "`directory` for everything the demo makes")
	flags.StringVar(&o.listen, "listen", "", "`address` to serve at; port 0: a free one (default "+defaultDemoListen+")")
	flags.StringVar(&o.health, "health-listen", "",
		"`address` of health and metrics (default "+defaultDemoHealth+" or a free one)")
	flags.IntVar(&o.keys, "keys", 0, "`number` of keys demo-key-1, demo-key-2, … (default 2, or as before)")
	flags.BoolVar(&o.prepareOnly, "prepare-only", false, "write the directory and start nothing")
	flags.BoolVar(&o.exit, "exit", false, "end after the checks: 0 if all went well, 1 if not")
	flags.StringVar(&o.module, "module", "", "`path` of libsofthsm2.so (default: searched for)")
	c.AddCommand(newDemoTokenCommand())
	return c
}

func (o *demoOptions) check(c *cobra.Command) error {
	switch {
	case o.dir == "":
		return errors.New("--dir is empty: name a directory")
	case o.prepareOnly && o.exit:
		return errors.New("--prepare-only and --exit exclude each other: the first starts nothing, so that there is nothing to check")
	case c.Flags().Changed("keys") && (o.keys < 1 || o.keys > maxDemoKeys):
		return fmt.Errorf("--keys %d: make it 1 to %d", o.keys, maxDemoKeys)
	}
	return nil
}

// runDemo prepares the directory, serves it, shows it.
func runDemo(ctx context.Context, o demoOptions, out io.Writer) error {
	module, err := findSoftHSM(o.module)
	if err != nil {
		return err
	}
	d, err := openDemoDirectory(o.dir)
	if err != nil {
		return err
	}
	defer d.unlock()
	before, err := d.previous()
	if err != nil {
		return err
	}
	p := plan{module: module, dir: d, before: before, keys: demoKeyCount(o, before)}
	p.at, err = demoListen(o, before)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Preparing %s\n", d.path)
	to, err := p.prepare(ctx, out)
	if err != nil {
		return err
	}
	if o.prepareOnly {
		fmt.Fprintf(out, "\nServe it with\n\n  xks-proxy serve --config %s\n", shellQuote(d.config()))
		return nil
	}
	return showDemo(ctx, d, to, o.exit, out)
}

// demoKeyCount: a second run keeps what is there, and may add to it.
func demoKeyCount(o demoOptions, before *connectionFile) int {
	switch {
	case before != nil:
		return max(o.keys, len(before.Keys))
	case o.keys > 0:
		return o.keys
	}
	return defaultDemoKeys
}
