package main

// The config command: check a configuration file, show what is in effect, print the
// reference of its keys.

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
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
		Args: cobra.ArbitraryArgs, // commandOrHelp says what is wrong with them
		RunE: commandOrHelp,
	}
	c.AddCommand(
		newConfigCheckCommand(), newConfigShowCommand(), newConfigDiffCommand(),
		newConfigExampleCommand(), newConfigSchemaCommand(), newConfigReferenceCommand(),
	)
	return c
}

func newConfigCheckCommand() *cobra.Command {
	var noSecrets bool
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Say whether a configuration is good, and all that is wrong with it",
		Long: `check reads a configuration as serve does, with the certificate, its key, the
policies and all secrets (commands that print a secret are run; HSMs are not
contacted). It prints what would be served, or every error with its place and what to do.

Exit code 0: good, perhaps with warnings. 1: it is not. 2: wrong usage.`,
		Example: `  xks-proxy config check /etc/xks-proxy/xks-proxy.yaml
  xks-proxy config check --no-secrets xks-proxy.yaml   where the secrets are not at hand`,
		Args:              atMostOneFile,
		ValidArgsFunction: completeYAML,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := configPath(firstOf(args))
			if err != nil {
				return err
			}
			return checkConfig(c, path, !noSecrets)
		},
	}
	c.Flags().BoolVar(&noSecrets, "no-secrets", false, "do not read secrets")
	return c
}

func newConfigShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print the configuration in effect, with defaults and overrides",
		Long: `show prints the configuration as YAML: what the file says, what the environment
overrides, and every default, each marked. Paths are absolute. Secrets are shown
as references and not read. The output can be used as a configuration file.`,
		Example:           `  xks-proxy config show /etc/xks-proxy/xks-proxy.yaml`,
		Args:              atMostOneFile,
		ValidArgsFunction: completeYAML,
		RunE: func(c *cobra.Command, args []string) error {
			path, err := configPath(firstOf(args))
			if err != nil {
				return err
			}
			l, err := loadFile(path)
			if err != nil {
				return err
			}
			err = l.report.err()
			if err != nil {
				return err
			}
			printWarnings(c, l.report.warnings)
			return showConfig(c.OutOrStdout(), l)
		},
	}
}

// checkConfig is `config check`.
func checkConfig(c *cobra.Command, path string, withSecrets bool) error {
	configuration, warnings, err := loadConfig(path)
	if err != nil {
		return err
	}
	r := newReport(configuration.source)
	r.warnings = warnings
	material, more, err := prepareTLS(configuration)
	r.add(err)
	r.warnings = append(r.warnings, more...)
	if err == nil {
		checkValidity(r, material, time.Now())
	}
	if withSecrets {
		resolveInto(c.Context(), r, configuration)
	}
	err = r.err()
	if err != nil {
		return err
	}
	printWarnings(c, r.warnings)
	fmt.Fprintf(c.OutOrStdout(), "%s: ok\n\n", path)
	return summarize(c.OutOrStdout(), configuration, material, withSecrets)
}

func printWarnings(c *cobra.Command, warnings []warning) {
	for _, w := range warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
}

func atMostOneFile(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usageError(fmt.Errorf("one configuration file at a time, not %d", len(args)))
	}
	return nil
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func completeYAML(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}
