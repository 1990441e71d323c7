package command

// The flags of every command that talks to a running proxy: which one is meant, and in which form
// the answer is printed.

import (
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/text"
)

// ProxyFlags say which proxy is meant.
type ProxyFlags struct {
	ConfigFlag
	Socket string
	JSON   bool
}

// Register is for a command that has arguments of its own.
func (f *ProxyFlags) Register(c *cobra.Command) {
	c.Flags().SortFlags = false
	f.ConfigFlag.Register(c)
	f.registerSocket(c)
}

// RegisterArgument is for a command whose only argument may be the configuration.
func (f *ProxyFlags) RegisterArgument(c *cobra.Command) {
	c.Flags().SortFlags = false
	f.ConfigFlag.RegisterArgument(c)
	f.registerSocket(c)
}

func (f *ProxyFlags) registerSocket(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.Socket, "socket", "",
		"admin socket `PATH` (default: what the configuration says)")
	flags.BoolVar(&f.JSON, "json", false, "print JSON")
}

// Client finds the proxy. It does not connect.
func (f *ProxyFlags) Client() (*api.Client, error) {
	socket, err := f.FindSocket()
	if err != nil {
		return nil, err
	}
	return api.NewClient(socket), nil
}

// Say prints an answer: its JSON if that is wanted, or what print makes of it.
func (f *ProxyFlags) Say(w io.Writer, json []byte, print func(*text.Page)) error {
	if !f.JSON {
		return text.Print(w, print)
	}
	_, err := w.Write(json)
	return err
}
