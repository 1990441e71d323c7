package main

// `config check`: everything that can be known of a configuration without serving it.

import (
	"context"
	"fmt"
	"time"

	"xks-proxy/internal/access"
	"xks-proxy/internal/sharedlib"
	"xks-proxy/internal/text"
)

// checkOptions say what a check leaves out, and whose rights it looks at.
type checkOptions struct {
	noSecrets bool         // neither secrets nor the keys of certificates
	noModules bool         // the HSMs' libraries are not on this machine
	asUser    *access.User // nil: nobody's
}

// configCheck is what a check came to.
type configCheck struct {
	options    checkOptions
	report     *report
	config     *config // complete if there is no problem
	material   *tlsMaterial
	notChecked []string // what could not be known, a sentence each
}

// checkConfig checks the configuration at path, to the end whatever it finds on the way. The error
// is about reading that file.
func checkConfig(ctx context.Context, path string, options checkOptions) (*configCheck, error) {
	l, err := loadFile(path)
	if err != nil {
		return nil, err
	}
	c := &configCheck{options: options, report: l.report, config: l.config}
	warnOpenConfig(c.report, path)
	if !l.whole {
		c.leaveOut("what the configuration names: the file has to be readable first")
		return c, nil
	}
	c.files()
	c.config.policies = loadPolicies(c.report, c.config)
	c.modules()
	c.secrets(ctx)
	c.access(ctx)
	return c, nil
}

func (c *configCheck) leaveOut(format string, args ...any) {
	c.notChecked = append(c.notChecked, fmt.Sprintf(format, args...))
}

// files checks certificates, and what else the configuration names.
func (c *configCheck) files() {
	read := readCertificate
	if c.options.noSecrets {
		read = readChain
	}
	for _, place := range c.config.certificatePlaces() {
		checkCertificateFile(c.report, place)
		if !c.options.noSecrets {
			checkKeyFile(c.report, place)
		}
		if place.Certificate == "" || place.Key == "" {
			// Reported as missing, or below what is broken.
			c.report.failed[place.path+".certificate"] = true
		}
	}
	switch {
	case !c.options.noSecrets:
		checkWebConfig(c.report, c.config)
	case c.config.Metrics.WebConfig != "":
		c.leaveOut("%s, which holds passwords (--no-secrets)", c.config.Metrics.WebConfig)
	}
	checkOtherFiles(c.report, c.config)
	c.material = collectTLS(c.report, c.config, read)
	checkValidity(c.report, c.material, time.Now())
}

// moduleSymbol is what every PKCS#11 module exports (PKCS#11 2.40 section 4.2).
const moduleSymbol = "C_GetFunctionList"

// modules looks at the HSMs' libraries without loading them.
func (c *configCheck) modules() {
	if c.options.noModules {
		c.leaveOut("the HSMs' modules (--no-modules)")
		return
	}
	for i, h := range c.config.HSMs {
		if h.Module == "" || c.report.failed[moduleKey(i)] {
			continue
		}
		missing, err := sharedlib.Check(
			sharedlib.Place{
				File:        h.Module,
				Symbol:      moduleSymbol,
				LibraryPath: h.libraryPath(c.config.source.dir),
			},
		)
		if err != nil {
			c.report.errorf(
				moduleKey(i),
				"%v; correct the path, or check with --no-modules where the HSM's software is "+
					"not installed",
				err,
			)
		}
		for _, library := range missing {
			c.report.warnf(
				moduleKey(i),
				"%s cannot load without %s: no directory of the dynamic loader has it; install it, "+
					"or add its directory to LD_LIBRARY_PATH in environment",
				h.Module,
				library,
			)
		}
	}
}

func (c *configCheck) secrets(ctx context.Context) {
	if c.options.noSecrets {
		given := 0 // a token may need no PIN
		for _, placed := range c.config.secretRefs() {
			if !placed.ref.IsZero() {
				given++
			}
		}
		c.leaveOut(
			"%s and %s of certificates (--no-secrets)",
			text.Plural(given, "secret"),
			text.Plural(len(c.config.certificatePlaces()), "key"),
		)
		return
	}
	resolveInto(ctx, c.report, c.config)
}
