package main

// The flags of every command that talks to a running proxy: which one is meant, and in which form the answer is printed.

import (
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

// proxyFlags say which proxy is meant.
type proxyFlags struct {
	configFlag
	socket string
	json   bool
}

// register is for a command that has arguments of its own.
func (f *proxyFlags) register(c *cobra.Command) {
	c.Flags().SortFlags = false
	f.configFlag.register(c)
	f.registerSocket(c)
}

// registerArgument is for a command whose only argument may be the configuration.
func (f *proxyFlags) registerArgument(c *cobra.Command) {
	c.Flags().SortFlags = false
	f.configFlag.registerArgument(c)
	f.registerSocket(c)
}

func (f *proxyFlags) registerSocket(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.socket, "socket", "",
		"admin socket `PATH` (default: what the configuration says)")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

// client finds the proxy. It does not connect.
func (f *proxyFlags) client() (*adminClient, error) {
	socket, err := f.findSocket()
	if err != nil {
		return nil, err
	}
	return newAdminClient(socket), nil
}

// say prints an answer: its JSON if that is wanted, or what print makes of it.
func (f *proxyFlags) say(w io.Writer, json []byte, print func(*text.Page)) error {
	if !f.json {
		return text.Print(w, print)
	}
	_, err := w.Write(json)
	return err
}
