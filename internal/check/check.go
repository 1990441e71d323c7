package check

// `config check`: everything that can be known of a configuration without serving it.

import (
	"context"
	"fmt"
	"time"

	"xks-proxy/internal/access"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/sharedlib"
	"xks-proxy/internal/text"
	"xks-proxy/internal/webconfig"
)

// Options say what a check leaves out, and whose rights it looks at.
type Options struct {
	NoSecrets bool         // neither secrets nor the keys of certificates
	NoModules bool         // the HSMs' libraries are not on this machine
	AsUser    *access.User // nil: rights are not checked
}

// Result is what a check found.
type Result struct {
	Options    Options
	Report     *schema.Report  // problems and warnings
	Config     *config.Config  // complete if there is no problem
	Material   *certs.Material // the certificates that could be read; nil if the file is not YAML
	NotChecked []string        // what was left out, one sentence each
}

// File checks the configuration file at path completely, whatever it finds on the way. The error
// says that the file cannot be read.
func File(ctx context.Context, path string, options Options) (*Result, error) {
	l, err := config.LoadFile(path)
	if err != nil {
		return nil, err
	}
	c := &Result{Options: options, Report: l.Report, Config: l.Config}
	config.WarnOpenConfig(c.Report, path)
	if !l.Whole {
		c.leaveOut("what the configuration names: the file has to be readable first")
		return c, nil
	}
	c.files()
	c.Config.Policies = config.LoadPolicies(c.Report, c.Config)
	c.modules()
	c.secrets(ctx)
	c.access(ctx)
	return c, nil
}

func (c *Result) leaveOut(format string, args ...any) {
	c.NotChecked = append(c.NotChecked, fmt.Sprintf(format, args...))
}

// files checks certificates, and what else the configuration names.
func (c *Result) files() {
	read := certs.ReadCertificate
	if c.Options.NoSecrets {
		read = certs.ReadChain
	}
	for _, place := range c.Config.CertificatePlaces() {
		config.CheckCertificateFile(c.Report, place)
		if !c.Options.NoSecrets {
			config.CheckKeyFile(c.Report, place)
		}
		if place.Certificate == "" || place.Key == "" {
			// Reported as missing, or below what is broken.
			c.Report.Failed[place.Path+".certificate"] = true
		}
	}
	switch {
	case !c.Options.NoSecrets:
		webconfig.Check(c.Report, config.WebConfigKey, c.Config.Metrics.WebConfig)
	case c.Config.Metrics.WebConfig != "":
		c.leaveOut("%s, which holds passwords (--no-secrets)", c.Config.Metrics.WebConfig)
	}
	config.CheckOtherFiles(c.Report, c.Config)
	c.Material = certs.Collect(c.Report, c.Config, read)
	certs.CheckValidity(c.Report, c.Material, time.Now())
}

// moduleSymbol is what every PKCS#11 module exports (PKCS#11 2.40 section 4.2).
const moduleSymbol = "C_GetFunctionList"

// modules looks at the HSMs' libraries without loading them.
func (c *Result) modules() {
	if c.Options.NoModules {
		c.leaveOut("the HSMs' modules (--no-modules)")
		return
	}
	for i, h := range c.Config.HSMs {
		if h.Module == "" || c.Report.Failed[config.ModuleKey(i)] {
			continue
		}
		missing, err := sharedlib.Check(
			sharedlib.Place{
				File:        h.Module,
				Symbol:      moduleSymbol,
				LibraryPath: h.LibraryPath(c.Config.Source.Dir),
			},
		)
		if err != nil {
			c.Report.Errorf(
				config.ModuleKey(i),
				"%v; correct the path, or check with --no-modules where the HSM's software is "+
					"not installed",
				err,
			)
		}
		for _, library := range missing {
			c.Report.Warnf(
				config.ModuleKey(i),
				"%s cannot load without %s: no directory of the dynamic loader has it; install "+
					"it, "+
					"or add its directory to LD_LIBRARY_PATH in environment",
				h.Module,
				library,
			)
		}
	}
}

func (c *Result) secrets(ctx context.Context) {
	if c.Options.NoSecrets {
		given := 0 // a token may need no PIN
		for _, placed := range c.Config.SecretRefs() {
			if !placed.Ref.IsZero() {
				given++
			}
		}
		c.leaveOut(
			"%s and %s of certificates (--no-secrets)",
			text.Plural(given, "secret"),
			text.Plural(len(c.Config.CertificatePlaces()), "key"),
		)
		return
	}
	config.ResolveInto(ctx, c.Report, c.Config)
}
