package main

// Where a command finds the configuration and the running proxy.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// Where a packaged proxy has them. A build for another system changes them with -ldflags -X.
var (
	defaultConfigFile = "/etc/xks-proxy/xks-proxy.yaml"
	defaultSocket     = "/run/xks-proxy/admin.sock"
)

const (
	// configVariable names the configuration file.
	configVariable = environmentPrefix + "CONFIG"
	// socketVariable overrides admin.socket, for the proxy and for the commands that talk to it.
	socketVariable = environmentPrefix + "ADMIN_SOCKET"
)

// configFlag is the configuration file of a command: --config FILE, or FILE alone where the command
// has no other argument.
type configFlag struct {
	file string
}

// register adds --config.
func (f *configFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "config", "",
		"configuration `FILE` (default "+defaultConfigFile+")")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	check := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if c.Flags().Changed("config") && f.file == "" {
			return usageError(
				errors.New("--config is empty: name a configuration file, or leave it out"),
			)
		}
		if check != nil {
			return check(c, args)
		}
		return nil
	}
}

// registerArgument is register for a command that takes FILE as its only argument, too.
func (f *configFlag) registerArgument(c *cobra.Command) {
	f.register(c)
	c.Use += " [FILE]"
	c.ValidArgsFunction = completeYAML
	c.Args = func(c *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return nil
		case len(args) > 1:
			return usageError(fmt.Errorf("one configuration file at a time, not %d", len(args)))
		case args[0] == "":
			return usageError(errors.New("the name of the configuration file is empty"))
		case f.file != "" && filepath.Clean(f.file) != filepath.Clean(args[0]):
			return usageError(
				fmt.Errorf(
					"two configurations are named, %s and --config %s: name one",
					args[0],
					f.file,
				),
			)
		}
		f.file = args[0]
		return nil
	}
}

// path is the configuration file that is meant.
func (f *configFlag) path() (string, error) {
	path, err := f.find()
	if errors.Is(err, fs.ErrNotExist) {
		return "", usageError(
			fmt.Errorf(
				"no configuration file: %s does not exist; name one with --config, or set %s",
				path,
				configVariable,
			),
		)
	}
	return path, err
}

// find is path, whose error is fs.ErrNotExist if no file is named and the default one does not
// exist.
func (f *configFlag) find() (string, error) {
	if f.file != "" {
		return f.file, nil
	}
	if named := os.Getenv(configVariable); named != "" {
		return named, nil
	}
	_, err := os.Stat(defaultConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return defaultConfigFile, fs.ErrNotExist
	}
	return defaultConfigFile, nil // if it cannot be read, reading it says why
}

// named says that the user chose a configuration.
func (f *configFlag) named() bool { return f.file != "" || os.Getenv(configVariable) != "" }

// findSocket is the admin socket of the proxy that is meant, in this order: --socket,
// XKS_ADMIN_SOCKET, admin.socket of the configuration. Nobody but a named configuration's own socket
// is asked if one is named: an order must not reach another proxy. Where none is named and the
// default one does not say it, it is the default socket.
func (f *proxyFlags) findSocket() (string, error) {
	if f.socket != "" {
		return f.socket, nil
	}
	if given := os.Getenv(socketVariable); given != "" {
		if !filepath.IsAbs(given) {
			return "", usageError(
				fmt.Errorf("%s=%s: it must be an absolute path", socketVariable, given),
			)
		}
		return given, nil
	}
	path, err := f.find()
	if errors.Is(err, fs.ErrNotExist) {
		return defaultSocket, nil
	}
	if err != nil {
		return "", err
	}
	socket, err := configuredSocket(path)
	if err != nil && !f.named() {
		return defaultSocket, nil
	}
	if err != nil {
		return "", fmt.Errorf(
			"%w\n--socket or %s finds the proxy without its configuration",
			err,
			socketVariable,
		)
	}
	return socket, nil
}

// configuredSocket reads admin.socket. A mistake elsewhere in the configuration does not keep an
// operator from a proxy that runs: the kill switch is for bad days.
func configuredSocket(path string) (string, error) {
	l, err := loadFile(path)
	if err != nil {
		return "", err
	}
	socket := l.config.Admin.Socket
	if socket == "" || l.report.failed["admin.socket"] {
		err = l.report.err()
	}
	if err != nil {
		return "", err
	}
	if socket == "" {
		return "", fmt.Errorf(
			"%s: admin.socket is empty, so that the proxy cannot be reached; give it a path and restart the proxy",
			path,
		)
	}
	return socket, nil
}
