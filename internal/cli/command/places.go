package command

// Where a command finds the configuration and the running proxy.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
)

// The places of an installed proxy. A build for another system sets them with -ldflags "-X
// xks-proxy/internal/cli/command.DefaultConfigFile=…".
var (
	DefaultConfigFile = "/etc/xks-proxy/xks-proxy.yaml"
	DefaultSocket     = "/run/xks-proxy/admin.sock"
)

// ConfigFlag is the configuration file of a command: --config FILE, or FILE alone where the command
// has no other argument.
type ConfigFlag struct {
	File string
}

// Register adds --config.
func (f *ConfigFlag) Register(c *cobra.Command) {
	c.Flags().StringVar(&f.File, "config", "",
		"configuration `FILE` (default "+DefaultConfigFile+")")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	check := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("config") && f.File == "" {
			return UsageError(
				errors.New("--config is empty: name a configuration file, or leave it out"),
			)
		}
		if check != nil {
			return check(c, args)
		}
		return nil
	}
}

// RegisterArgument is Register for a command that takes FILE as its only argument, too.
func (f *ConfigFlag) RegisterArgument(c *cobra.Command) {
	f.Register(c)
	c.Use += " [FILE]"
	c.ValidArgsFunction = completeYAML
	c.Args = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return nil
		case len(args) > 1:
			return UsageError(fmt.Errorf("one configuration file at a time, not %d", len(args)))
		case args[0] == "":
			return UsageError(errors.New("the name of the configuration file is empty"))
		case f.File != "" && filepath.Clean(f.File) != filepath.Clean(args[0]):
			return UsageError(
				fmt.Errorf(
					"two configurations are named, %s and --config %s: name one",
					args[0],
					f.File,
				),
			)
		}
		f.File = args[0]
		return nil
	}
}

// Path is the configuration file that is meant.
func (f *ConfigFlag) Path() (string, error) {
	path, err := f.Find()
	if errors.Is(err, fs.ErrNotExist) {
		return "", UsageError(
			fmt.Errorf(
				"no configuration file: %s does not exist; name one with --config, or set %s",
				path,
				schema.ConfigVariable,
			),
		)
	}
	return path, err
}

// Find is Path, with the error fs.ErrNotExist if no file is named and the default one does not
// exist.
func (f *ConfigFlag) Find() (string, error) {
	if f.File != "" {
		return f.File, nil
	}
	if named := os.Getenv(schema.ConfigVariable); named != "" {
		return named, nil
	}
	_, err := os.Stat(DefaultConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultConfigFile, fs.ErrNotExist
	}
	return DefaultConfigFile, nil // if it cannot be read, reading it says why
}

// named says that the user chose a configuration.
func (f *ConfigFlag) named() bool { return f.File != "" || os.Getenv(schema.ConfigVariable) != "" }

// FindSocket is the admin socket of the proxy that is meant, in this order: --socket,
// XKS_ADMIN_SOCKET, admin.socket of the configuration. If a configuration is named, only its own
// socket is used: an order must not reach another proxy. If none is named and the default one does
// not give a socket, the default socket is used.
func (f *ProxyFlags) FindSocket() (string, error) {
	if f.Socket != "" {
		return f.Socket, nil
	}
	if given := os.Getenv(schema.SocketVariable); given != "" {
		if !filepath.IsAbs(given) {
			return "", UsageError(
				fmt.Errorf("%s=%s: it must be an absolute path", schema.SocketVariable, given),
			)
		}
		return given, nil
	}
	path, err := f.Find()
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultSocket, nil
	}
	if err != nil {
		return "", err
	}
	socket, err := configuredSocket(path)
	if err != nil && !f.named() {
		return DefaultSocket, nil
	}
	if err != nil {
		return "", fmt.Errorf(
			"%w\n--socket or %s finds the proxy without its configuration",
			err,
			schema.SocketVariable,
		)
	}
	return socket, nil
}

// configuredSocket reads admin.socket. An error elsewhere in the configuration does not keep an
// operator from a running proxy: the kill switch is needed most when something is wrong.
func configuredSocket(path string) (string, error) {
	l, err := config.LoadFile(path)
	if err != nil {
		return "", err
	}
	socket := l.Config.Admin.Socket
	if socket == "" || l.Report.Failed["admin.socket"] {
		err = l.Report.Err()
	}
	if err != nil {
		return "", err
	}
	if socket == "" {
		return "", fmt.Errorf(
			"%s: admin.socket is empty, so that the proxy cannot be reached; give it a path and "+
				"restart the proxy",
			path,
		)
	}
	return socket, nil
}
