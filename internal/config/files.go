package config

// Checks that the files a configuration names are there: certificates, their keys and CA bundles
// (the program does not start without; package certs reads them), and the modules (a warning: a
// file is often checked on another machine than it runs on).

import (
	"fmt"
	"os"
	"path/filepath"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
	"xks-proxy/internal/webconfig"
)

// checkFiles reports files that are missing or cannot be read.
func checkFiles(r *schema.Report, c *Config) {
	for _, place := range c.CertificatePlaces() {
		CheckCertificateFile(r, place)
		CheckKeyFile(r, place)
	}
	webconfig.Check(r, WebConfigKey, c.Metrics.WebConfig)
	CheckOtherFiles(r, c)
	for i, h := range c.HSMs {
		err := guarded.CheckReadable(h.Module)
		if err != nil {
			r.Warnf(ModuleKey(i), "%v", err)
		}
	}
}

// ModuleKey is the key of the module of an HSM, by its index.
func ModuleKey(hsm int) string { return fmt.Sprintf("hsms[%d].module", hsm) }

// CheckOtherFiles reports problems with the files that are neither certificates nor modules.
func CheckOtherFiles(r *schema.Report, c *Config) {
	for _, place := range c.ListenerPlaces() {
		if path := place.ClientCertificates.CA; path != "" {
			err := guarded.CheckReadable(path)
			if err != nil {
				r.Errorf(place.Path+".client_certificates.ca", "%v", err)
			}
		}
	}
	for i, h := range c.HSMs {
		ValidateUser(r, fmt.Sprintf("hsms[%d].user", i), h.User)
		ValidateConfine(r, c, fmt.Sprintf("hsms[%d].confine", i), h)
	}
	info, err := os.Stat(c.StateDirectory) // it may still have to be made
	if err == nil && !info.IsDir() {
		r.Errorf("state_directory", "%s is not a directory", c.StateDirectory)
	}
	if path := c.Log.Output; filepath.IsAbs(path) {
		_, err := os.Stat(filepath.Dir(path))
		if err != nil {
			r.Errorf("log.output", "%v", guarded.Problem(filepath.Dir(path), err))
		}
	}
}

// CheckCertificateFile reports a certificate file that cannot be read. A missing setting is
// reported elsewhere.
func CheckCertificateFile(r *schema.Report, place certificatePlace) {
	if place.Certificate == "" {
		return
	}
	err := guarded.CheckReadable(place.Certificate)
	if err != nil {
		r.Errorf(place.Path+".certificate", "%v", err)
	}
}

// CheckKeyFile reports a key file that cannot be read or is not private.
func CheckKeyFile(r *schema.Report, place certificatePlace) {
	if place.Key == "" {
		return
	}
	key, err := guarded.OpenPrivate(place.Key)
	if err != nil {
		r.Errorf(place.Path+".key", "%v", err)
		return
	}
	_ = key.Close() // nothing was written
}
