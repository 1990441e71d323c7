// Package version knows what this binary is: the version that its build was given, or what the
// version-control system says about the sources.
package version

import (
	"crypto/fips140"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// stamped is set by the linker: -ldflags "-X xks-proxy/internal/version.stamped=v1.2.3", which
// `make build VERSION=v1.2.3` and the build argument VERSION of the Dockerfile do.
var stamped string

// Unknown is the version of a build that was given none and that had no version control at hand.
const Unknown = "(devel)"

// Info is what is known about this binary.
type Info struct {
	Version      string `json:"version"`            // stamped, a tag, or v0.0.0-time-commit; +dirty as below
	Revision     string `json:"revision,omitempty"` // of the version-control system
	RevisionTime string `json:"revisionTime,omitempty"`
	Modified     bool   `json:"modified"` // files were changed after that revision
	Go           string `json:"go"`
	Platform     string `json:"platform"`
	FIPS140      bool   `json:"fips140"` // the Go Cryptographic Module runs in FIPS 140-3 mode
	FIPS140Build string `json:"fips140Build,omitempty"`
}

// Get describes this binary. It does not change while the program runs.
var Get = sync.OnceValue(func() Info {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return describe(stamped, info)
})

// describe prefers the version that the build was given over the one that Go found.
func describe(given string, info *debug.BuildInfo) Info {
	v := Info{
		Version:  info.Main.Version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		FIPS140:  fips140.Enabled(),
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
	given = strings.TrimSpace(given)
	switch {
	case given != "":
		v.Version = given
	case v.Version == "" || v.Version == Unknown:
		v.Version = pseudoVersion(v)
	}
	return v
}

// pseudoVersion names a commit as Go does (https://go.dev/ref/mod#pseudo-versions), for a build in
// which Go recorded the commit and no version.
func pseudoVersion(v Info) string {
	const abbreviated = 12
	committed, err := time.Parse(time.RFC3339, v.RevisionTime)
	if err != nil || len(v.Revision) < abbreviated {
		return Unknown
	}
	version := "v0.0.0-" + committed.UTC().Format("20060102150405") + "-" + v.Revision[:abbreviated]
	if v.Modified {
		version += "+dirty"
	}
	return version
}
