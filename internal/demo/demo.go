package demo

// The demo command: from nothing to a served, signed, encrypted key store on two
// software HSMs, all in one directory.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

const (
	DefaultDirectory    = "demo"
	DefaultListen       = "127.0.0.1:8443"
	DefaultHealthListen = "127.0.0.1:8080" // health.listen of the configuration, by default
	freeDemoHealth      = "127.0.0.1:0"
	defaultDemoKeys     = 2
	maxDemoKeys         = 100000
)

// Options are the flags of demo.
type Options struct {
	Dir         string
	Listen      string // "": as before, or the default
	Health      string // "": as before, or the default, or a free port
	Module      string // "": searched for
	Keys        int    // 0: as before, or the default
	PrepareOnly bool
	Exit        bool
}

// Check refuses what the options do not allow. keysGiven is whether a number of keys was asked for.
func (o *Options) Check(keysGiven bool) error {
	switch {
	case o.Dir == "":
		return errors.New("--dir is empty: name a directory")
	case o.PrepareOnly && o.Exit:
		return errors.New(
			"--prepare-only and --exit cannot be used together: --prepare-only starts nothing, " +
				"so there is nothing to check",
		)
	case keysGiven && (o.Keys < 1 || o.Keys > maxDemoKeys):
		return fmt.Errorf("--keys %d: make it 1 to %d", o.Keys, maxDemoKeys)
	}
	return nil
}

// Run prepares the directory, serves it, shows it.
func Run(ctx context.Context, o Options, out io.Writer) error {
	module, err := findSoftHSM(o.Module)
	if err != nil {
		return err
	}
	d, err := openDemoDirectory(o.Dir)
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
	fmt.Fprintf(out, "Preparing %s\n", d.Path)
	to, err := p.prepare(ctx, out)
	if err != nil {
		return err
	}
	if o.PrepareOnly {
		fmt.Fprintf(
			out,
			"\nServe it with\n\n  xks-proxy serve --config %s\n",
			text.ShellQuote(d.config()),
		)
		return nil
	}
	return showDemo(ctx, d, to, o.Exit, out)
}

// demoKeyCount: a second run keeps what is there, and may add to it.
func demoKeyCount(o Options, before *xksclient.ConnectionFile) int {
	switch {
	case before != nil:
		return max(o.Keys, len(before.Keys))
	case o.Keys > 0:
		return o.Keys
	}
	return defaultDemoKeys
}
