package main

// The demo command: from nothing to a served, signed, encrypted key store on two
// software HSMs, all in one directory.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"xks-proxy/internal/text"
)

const (
	defaultDemoDirectory = "demo"
	defaultDemoListen    = "127.0.0.1:8443"
	defaultDemoHealth    = "127.0.0.1:8080" // health.listen of the configuration, by default
	freeDemoHealth       = "127.0.0.1:0"
	defaultDemoKeys      = 2
	maxDemoKeys          = 100000
)

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

// check refuses what the options do not allow. keysGiven is whether a number of keys was asked for.
func (o *demoOptions) check(keysGiven bool) error {
	switch {
	case o.dir == "":
		return errors.New("--dir is empty: name a directory")
	case o.prepareOnly && o.exit:
		return errors.New("--prepare-only and --exit exclude each other: the first starts nothing, so that there is nothing to check")
	case keysGiven && (o.keys < 1 || o.keys > maxDemoKeys):
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
		fmt.Fprintf(out, "\nServe it with\n\n  xks-proxy serve --config %s\n", text.ShellQuote(d.config()))
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
