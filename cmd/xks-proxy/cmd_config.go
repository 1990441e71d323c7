package main

// The config command: check a configuration file, show what is in effect, print the
// reference of its keys.

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

func newConfigCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Check and show the configuration",
		Long: `config looks at a configuration file without serving anything.

Without FILE it is the one that XKS_CONFIG names, or else
/etc/xks-proxy/xks-proxy.yaml. Overrides from the environment
(XKS_SERVER_LISTEN, …) count as they do for serve: check a file in the
environment it will run in.`,
		Example: `  xks-proxy config check xks-proxy.yaml
  XKS_LOG_LEVEL=debug xks-proxy config show xks-proxy.yaml`,
		Args: cobra.ArbitraryArgs, // commandOrHelp says what is wrong with them
		RunE: commandOrHelp,
	}
	c.AddCommand(newConfigCheckCommand(), newConfigShowCommand(), newConfigDiffCommand(), newConfigReferenceCommand())
	return c
}

func newConfigCheckCommand() *cobra.Command {
	var f configFlag
	var noSecrets bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Say whether a configuration is good, and all that is wrong with it",
		Long: `check reads a configuration as serve does, with the certificate, its key, the
policies and all secrets (commands that print a secret are run; HSMs are not
contacted). It prints what would be served, or every error with its place and what to do.

Exit code 0: good, perhaps with warnings. 1: it is not. 2: wrong usage.`,
		Example: `  xks-proxy config check /etc/xks-proxy/xks-proxy.yaml
  xks-proxy config check --no-secrets x.yaml   where the secrets are not at hand`,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := f.path()
			if err != nil {
				return err
			}
			return checkConfig(c, path, !noSecrets)
		},
	}
	f.registerArgument(c)
	c.Flags().BoolVar(&noSecrets, "no-secrets", false, "do not read secrets")
	return c
}

func newConfigShowCommand() *cobra.Command {
	var f configFlag
	c := &cobra.Command{
		Use:   "show",
		Short: "Print the configuration in effect, with defaults and overrides",
		Long: `show prints the configuration as YAML: what the file says, what the environment
overrides, and every default, each marked. Paths are absolute. Secrets are shown
as references and not read. The output can be used as a configuration file.`,
		Example: `  xks-proxy config show /etc/xks-proxy/xks-proxy.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := f.path()
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
	f.registerArgument(c)
	return c
}

func newConfigReferenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print every key with its type, default, variable and meaning",
		Long:  "reference prints every key of the configuration file, as Markdown: its type, its\ndefault, the environment variable that overrides it, and what it means.",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return writeReference(c.OutOrStdout())
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
	advice := ""
	if withSecrets {
		advice = needsSystemd(c.Context(), configuration.secretRefs(), false)
	}
	if err != nil && advice != "" {
		return fmt.Errorf("%w\n%s", err, advice)
	}
	if err != nil {
		return err
	}
	printWarnings(c, r.warnings)
	fmt.Fprintf(c.OutOrStdout(), "%s: ok\n\n", path)
	return text.Print(c.OutOrStdout(), func(p *text.Page) {
		summarize(p, configuration, material, withSecrets)
	})
}

func printWarnings(c *cobra.Command, warnings []warning) {
	for _, w := range warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
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
