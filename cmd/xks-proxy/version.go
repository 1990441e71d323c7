package main

// The version command: what this binary is, for a ticket or an audit.

import (
	"crypto/fips140"
	"encoding/json"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

// buildVersion is what is known about this binary.
type buildVersion struct {
	Version      string `json:"version"`            // of the module; (devel) for a build from a working tree without a tag
	Revision     string `json:"revision,omitempty"` // of the version control system
	RevisionTime string `json:"revisionTime,omitempty"`
	Modified     bool   `json:"modified"` // files were changed after that revision
	Go           string `json:"go"`
	Platform     string `json:"platform"`
	FIPS140      bool   `json:"fips140"` // the Go Cryptographic Module runs in FIPS 140-3 mode
	FIPS140Build string `json:"fips140Build,omitempty"`
}

// programVersion reads what the Go linker recorded.
func programVersion() buildVersion {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return versionOf(info)
}

func versionOf(info *debug.BuildInfo) buildVersion {
	v := buildVersion{
		Version:  info.Main.Version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		FIPS140:  fips140.Enabled(),
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.RevisionTime = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		case "GOFIPS140":
			v.FIPS140Build = s.Value
		}
	}
	return v
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print version information",
		Long:  "version prints the version, the revision it was built from, the Go version and whether\ncryptography runs in FIPS 140-3 mode.",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(programVersion())
			}
			return text.Print(c.OutOrStdout(), func(p *text.Page) { printVersion(p, programVersion()) })
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printVersion(p *text.Page, v buildVersion) {
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
