package cli

// The version command: what this binary is, for a ticket or an audit.

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
	"xks-proxy/internal/version"
)

func newVersionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print version information",
		Long: "Print the version, the revision that it was built from, the Go version and whether\n" +
			"cryptography runs in FIPS 140-3 mode.",
		Args: command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(version.Get())
			}
			return text.Print(
				c.OutOrStdout(),
				func(p *text.Page) { printVersion(p, version.Get()) },
			)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printVersion(p *text.Page, v version.Info) {
	revision := v.Revision
	if revision == "" {
		revision = "not recorded"
	}
	if v.RevisionTime != "" {
		revision += " of " + v.RevisionTime
	}
	if v.Modified {
		revision += ", with changes"
	}
	mode := "off"
	if v.FIPS140 {
		mode = "on"
	}
	if v.FIPS140Build != "" {
		mode += ", built with GOFIPS140=" + v.FIPS140Build
	}
	p.Facts([][2]string{
		{"xks-proxy", v.Version},
		{"revision", revision},
		{"go", v.Go + " " + v.Platform},
		{"FIPS 140-3", mode},
	})
}
