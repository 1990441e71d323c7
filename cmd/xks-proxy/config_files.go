package main

// Checks that the files a configuration names are there: certificates, their keys and
// CA bundles (the program does not start without; tls_read.go reads them), and the modules (a warning: a file
// is often checked on another machine than it runs on).

import (
	"fmt"
	"os"
	"path/filepath"

	"xks-proxy/internal/guarded"
)

// checkFiles reports files that are missing or cannot be read.
func checkFiles(r *report, c *config) {
	for _, place := range c.certificatePlaces() {
		checkCertificateFile(r, place)
		checkKeyFile(r, place)
	}
	checkWebConfig(r, c)
	checkOtherFiles(r, c)
	for i, h := range c.HSMs {
		err := guarded.CheckReadable(h.Module)
		if err != nil {
			r.warnf(moduleKey(i), "%v", err)
		}
	}
}

func moduleKey(hsm int) string { return fmt.Sprintf("hsms[%d].module", hsm) }

// checkOtherFiles is about those that are neither certificates nor modules.
func checkOtherFiles(r *report, c *config) {
	for _, place := range c.listenerPlaces() {
		if path := place.ClientCertificates.CA; path != "" {
			err := guarded.CheckReadable(path)
			if err != nil {
				r.errorf(place.path+".client_certificates.ca", "%v", err)
			}
		}
	}
	for i, h := range c.HSMs {
		validateUser(r, fmt.Sprintf("hsms[%d].user", i), h.User)
		validateConfine(r, c, fmt.Sprintf("hsms[%d].confine", i), h)
	}
	info, err := os.Stat(c.StateDirectory) // it may still have to be made
	if err == nil && !info.IsDir() {
		r.errorf("state_directory", "%s is not a directory", c.StateDirectory)
	}
	if path := c.Log.Output; filepath.IsAbs(path) {
		_, err := os.Stat(filepath.Dir(path))
		if err != nil {
			r.errorf("log.output", "%v", guarded.Problem(filepath.Dir(path), err))
		}
	}
}

// checkCertificateFile and checkKeyFile leave to others what is not given at all.
func checkCertificateFile(r *report, place certificatePlace) {
	if place.Certificate == "" {
		return
	}
	err := guarded.CheckReadable(place.Certificate)
	if err != nil {
		r.errorf(place.path+".certificate", "%v", err)
	}
}

func checkKeyFile(r *report, place certificatePlace) {
	if place.Key == "" {
		return
	}
	key, err := guarded.OpenPrivate(place.Key)
	if err != nil {
		r.errorf(place.path+".key", "%v", err)
		return
	}
	_ = key.Close() // nothing was written
}
