package cli

// The config commands that print what belongs to the program and reads no file: the example, the
// JSON Schema, the reference.

//go:generate go test -run TestConfigurationReference -update .

import (
	"github.com/spf13/cobra"

	"xks-proxy/configs"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
)

func newConfigExampleCommand() *cobra.Command {
	var minimal, keyStore bool
	c := &cobra.Command{
		Use:   "example",
		Short: "Print a commented configuration with every key",
		Long: `example prints the configuration that this version of the program is shipped with. Every
key is in it, explained, and commented out where it is at its default. With --minimal it
prints only what has to be given. With --key-store it prints a file of key_store_directory.`,
		Example: `  xks-proxy config example > xks-proxy.yaml
  xks-proxy config example --key-store > key_stores.d/payroll.yaml`,
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			text := configs.Proxy
			if keyStore {
				text = configs.KeyStore
			}
			if minimal {
				return config.WriteMinimal(c.OutOrStdout(), text)
			}
			_, err := c.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().BoolVar(&minimal, "minimal", false, "print only what has to be given")
	c.Flags().BoolVar(&keyStore, "key-store", false, "print a file of key_store_directory")
	return c
}

func newConfigSchemaCommand() *cobra.Command {
	var keyStore bool
	c := &cobra.Command{
		Use:   "schema",
		Short: "Print a JSON Schema of the configuration, for editors",
		Long: `schema prints a JSON Schema (draft 7) of the configuration file or, with --key-store, of a
file of key_store_directory. Editors complete keys with it and mark mistakes: write
"# yaml-language-server: $schema=xks-proxy.schema.json" into the first line of the file.
The schema knows single keys; config check knows the rest.`,
		Example: `  xks-proxy config schema > xks-proxy.schema.json
  xks-proxy config schema --key-store > key-store.schema.json`,
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return config.WriteSchema(c.OutOrStdout(), keyStore)
		},
	}
	c.Flags().BoolVar(&keyStore, "key-store", false, "print that of a file of key_store_directory")
	return c
}

func newConfigReferenceCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Print every key with its type, default, variable and meaning",
		Long: `reference prints every key of the configuration file, as Markdown: its type, its
default, the environment variable that overrides it, and what it means.`,
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return config.WriteReference(c.OutOrStdout())
		},
	}
}
