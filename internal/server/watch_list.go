package server

// Which files a configuration is made of, for those who look whether one has changed.

import (
	"os"
	"path/filepath"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
)

// filesOf are the files that one or several configurations are from: the file itself, the directory
// of key stores, policies, certificates with their keys, CAs, secrets. Each is listed once. A
// directory stands for the files in it (see filewatch). PKCS#11 modules are not in the list,
// because `hsm restart` loads a new one. Neither is the output of commands.
func filesOf(file string, configs ...*config.Config) []string {
	l := fileList{seen: map[string]bool{}}
	l.add(file)
	for _, c := range configs {
		l.addConfig(c)
	}
	return l.files
}

// fileList collects paths, each once.
type fileList struct {
	files []string
	seen  map[string]bool
}

func (l *fileList) add(paths ...string) {
	for _, path := range paths {
		if path != "" && !l.seen[path] {
			l.seen[path] = true
			l.files = append(l.files, path)
		}
	}
}

func (l *fileList) addConfig(c *config.Config) {
	l.add(c.KeyStoreDirectory, c.Metrics.WebConfig)
	t := c.Server.TLS
	l.add(t.Certificate, t.Key, c.Server.ClientCertificates.CA)
	l.addCertificates(t.More)
	for _, listener := range c.Server.Listeners {
		l.add(listener.ClientCertificates.CA)
	}
	for _, k := range c.KeyStores {
		l.addCertificates(k.Certificates)
		l.add(k.Policy.Files...)
	}
	for _, placed := range c.SecretRefs() {
		l.addSecret(placed.Ref)
	}
}

func (l *fileList) addCertificates(list []config.CertificateFiles) {
	for _, c := range list {
		l.add(c.Certificate, c.Key)
	}
}

func (l *fileList) addSecret(ref secret.Ref) {
	l.add(ref.File)
	if dir := os.Getenv(secret.CredentialsVariable); dir != "" && ref.Credential != "" {
		l.add(filepath.Join(dir, ref.Credential))
	}
}
