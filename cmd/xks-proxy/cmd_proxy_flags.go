package main

// The flags of every command that talks to a running proxy: which one is meant, and in which form the answer is printed.

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

// proxyFlags say which proxy is meant.
type proxyFlags struct {
	config, socket string
	json           bool
}

func (f *proxyFlags) register(c *cobra.Command) {
	c.Flags().SortFlags = false
	c.Flags().StringVar(&f.config, "config", "", "configuration `FILE` of the proxy (or set XKS_CONFIG)")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	f.registerSocket(c)
}

// registerSocket is register for a command whose argument is the configuration.
func (f *proxyFlags) registerSocket(c *cobra.Command) {
	flags := c.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.socket, "socket", "", "`PATH` of its admin socket, instead of a configuration")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

// client finds the socket. A mistake elsewhere in the configuration does not keep an operator from a proxy that runs: the
// kill switch is for bad days.
func (f *proxyFlags) client() (*adminClient, error) {
	if f.socket != "" {
		return newAdminClient(f.socket), nil
	}
	path, err := configPath(f.config)
	if err != nil {
		return nil, usageError(errors.New("which proxy? Name its configuration (--config, or " + configVariable + ") or its socket (--socket)"))
	}
	l, err := loadFile(path)
	if err != nil {
		return nil, err
	}
	err = l.report.err()
	if err != nil && (l.config.Admin.Socket == "" || l.report.failed["admin.socket"]) {
		return nil, fmt.Errorf("%w\n--socket finds the proxy without its configuration", err)
	}
	if l.config.Admin.Socket == "" {
		return nil, fmt.Errorf("%s: admin.socket is empty, so that the proxy cannot be reached; give it a path and restart the proxy", path)
	}
	return newAdminClient(l.config.Admin.Socket), nil
}

// say prints an answer: its JSON if that is wanted, or what print makes of it.
func (f *proxyFlags) say(w io.Writer, json []byte, print func(*text.Page)) error {
	if !f.json {
		return text.Print(w, print)
	}
	_, err := w.Write(json)
	return err
}
