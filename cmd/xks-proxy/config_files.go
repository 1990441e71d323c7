package main

// Checks of the files a configuration names: the certificate and its key (the
// program does not start without), and the modules (a warning: a file is often
// checked on another machine than it runs on).

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Days before the certificate's end at which to warn (requirement C1).
const certificateWarning = 30 * 24 * time.Hour

// checkFiles reports files that are missing or cannot be read.
func checkFiles(r *report, c *config) {
	if path := c.Server.TLS.Certificate; path != "" {
		err := checkReadable(path)
		if err != nil {
			r.errorf("server.tls.certificate", "%v", err)
		}
	}
	if path := c.Server.TLS.Key; path != "" {
		key, err := openPrivate(path)
		if err != nil {
			r.errorf("server.tls.key", "%v", err)
		} else {
			_ = key.Close() // nothing was written
		}
	}
	info, err := os.Stat(c.StateDirectory) // it may still have to be made
	if err == nil && !info.IsDir() {
		r.errorf("state_directory", "%s is no directory", c.StateDirectory)
	}
	if path := c.Log.Output; filepath.IsAbs(path) {
		_, err := os.Stat(filepath.Dir(path))
		if err != nil {
			r.errorf("log.output", "%v", fileProblem(filepath.Dir(path), err))
		}
	}
	for i, h := range c.HSMs {
		err := checkReadable(h.Module)
		if err != nil {
			r.warnf(fmt.Sprintf("hsms[%d].module", i), "%v", err)
		}
	}
}

func checkReadable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fileProblem(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a directory", path)
	}
	return nil
}

// readCertificate loads the server's certificate chain and its key, which must
// match and be private to their owner.
func readCertificate(t tlsConfig) (tls.Certificate, error) {
	f, err := openPrivate(t.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer f.Close()
	key, err := io.ReadAll(io.LimitReader(f, maxConfigSize))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the key cannot be read: %w", err)
	}
	chain, err := os.ReadFile(t.Certificate)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the certificate cannot be read: %w", fileProblem(t.Certificate, err))
	}
	if block, _ := pem.Decode(bytes.TrimSpace(key)); block != nil && block.Headers["DEK-Info"] != "" {
		return tls.Certificate{}, fmt.Errorf("%s is encrypted with a passphrase; store it without one, readable by its owner only", t.Key)
	}
	certificate, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s cannot be used: %w", t.Certificate, t.Key, err)
	}
	return certificate, nil
}

// checkCertificate reports what AWS KMS would stumble over and can be seen without
// a network (requirement C1).
func checkCertificate(r *report, certificate tls.Certificate, now time.Time) {
	const key = "server.tls.certificate"
	leaf := certificate.Leaf
	left := leaf.NotAfter.Sub(now)
	switch {
	case now.Before(leaf.NotBefore):
		r.errorf(key, "is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	case left < 0:
		r.errorf(key, "has expired on %s; put a new one in its place", leaf.NotAfter.UTC().Format(time.RFC3339))
	case left < certificateWarning:
		r.warnf(key, "expires in %d days, on %s", int(left.Hours()/24), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	err := leaf.VerifyHostname(commonName(leaf))
	var mismatch x509.HostnameError
	if errors.As(err, &mismatch) || leaf.Subject.CommonName == "" {
		r.warnf(key, "its subject CN %q is not among its DNS names; AWS KMS compares the CN with the name of the endpoint", leaf.Subject.CommonName)
	}
}

// commonName is the CN with a wildcard filled in, so that it can be looked up.
func commonName(leaf *x509.Certificate) string {
	name := leaf.Subject.CommonName
	if len(name) > 2 && name[:2] == "*." {
		return "x" + name[1:]
	}
	return name
}
