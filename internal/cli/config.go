package cli

// The config command: check a configuration file, show what is in effect, print the
// reference of its keys.

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"xks-proxy/internal/access"
	"xks-proxy/internal/check"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
)

func newConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration",
		Long: `config looks at a configuration file without serving anything.

FILE may be left out when XKS_CONFIG names it. Overrides from the environment
(XKS_SERVER_LISTEN, …) count as they do for serve: check a file in the
environment it will run in.`,
		Example: `  xks-proxy config check xks-proxy.yaml
  XKS_LOG_LEVEL=debug xks-proxy config show xks-proxy.yaml`,
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(
		newConfigCheckCommand(),
		newConfigShowCommand(),
		newConfigDiffCommand(),
		newTryAccessCommand(),
		newConfigExampleCommand(),
		newConfigSchemaCommand(),
		newConfigReferenceCommand(),
	)
	return c
}

func newConfigCheckCommand() *cobra.Command {
	var f command.ConfigFlag
	var options check.Options
	var asUser string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Validate a configuration and report every error",
		Long: `check reads a configuration as serve does, with the certificates, their keys, the policies
and all secrets (commands that print a secret are run; HSMs are not contacted, and their
modules are looked at and not loaded). It prints what would be served, or every error in all
files with its place and what to do.

With --as-user it also finds the files that this user could not use. As root it tries them
as that user; otherwise it computes the answer from owners and modes.

Exit code 0: good, perhaps with warnings. 1: not good, or not readable. 2: wrong usage.`,
		Example: `  xks-proxy config check /etc/xks-proxy/xks-proxy.yaml
  xks-proxy config check --as-user xks-proxy /etc/xks-proxy/xks-proxy.yaml
  xks-proxy config check --no-secrets --no-modules --json x.yaml   in a pipeline`,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := f.Path()
			if err != nil {
				return err
			}
			if asUser != "" {
				user, err := access.Lookup(asUser)
				if err != nil {
					return command.UsageError(err)
				}
				options.AsUser = &user
			}
			checked, err := check.File(c.Context(), path, options)
			switch {
			case err != nil && asJSON:
				return printUnreadable(c, path, err)
			case err != nil:
				return err
			}
			return printCheck(c, checked, path, asJSON)
		},
	}
	f.RegisterArgument(c)
	c.Flags().BoolVar(
		&options.NoSecrets,
		"no-secrets",
		false,
		"do not read secrets and the keys of certificates",
	)
	c.Flags().BoolVar(
		&options.NoModules,
		"no-modules",
		false,
		"do not look for the HSMs' modules: they are on another machine",
	)
	c.Flags().StringVar(&asUser, "as-user", "", "find the files that the user `NAME` could not use")
	c.Flags().BoolVar(&asJSON, "json", false, "print the outcome as JSON")
	return c
}

func newConfigShowCommand() *cobra.Command {
	var f command.ConfigFlag
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration in effect, with defaults and overrides",
		Long: `show prints the configuration as YAML: what the file says, what the environment
overrides, and every default, each marked. Paths are absolute. Secrets are shown
as references and not read. The output can be used as a configuration file.`,
		Example: `  xks-proxy config show /etc/xks-proxy/xks-proxy.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := f.Path()
			if err != nil {
				return err
			}
			l, err := config.LoadFile(path)
			if err != nil {
				return err
			}
			err = l.Report.Err()
			if err != nil {
				return err
			}
			command.PrintWarnings(c, l.Report.Warnings)
			var shown bytes.Buffer
			err = config.Show(&shown, l)
			if err != nil {
				return err
			}
			if again := config.Parse(path, l.Report.Dir, shown.Bytes(), nil); again.Report.Err() != nil {
				fmt.Fprintf(
					c.ErrOrStderr(),
					"warning: this is for reading: it does not load as one file: %v\n",
					again.Report.Err(),
				)
			}
			_, err = c.OutOrStdout().Write(shown.Bytes())
			return err
		},
	}
	f.RegisterArgument(c)
	return c
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
