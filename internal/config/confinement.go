package config

// Which files belong to the proxy, and which of them the process of an HSM needs nevertheless.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/webconfig"
	"xks-proxy/pkg/confine"
)

// commonDirectories are used by every program. A file of the proxy in one of them is protected, but
// not the directory.
var commonDirectories = []string{
	"/", "/dev", "/dev/shm", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv",
	"/tmp", "/usr", "/usr/local", "/usr/local/etc", "/var", "/var/lib", "/var/log", "/var/run",
	"/var/tmp", "/etc/opt", "/var/opt", "/usr/etc",
}

// systemDirectories hold programs and the files of the kernel. They are not secret, so they stay
// readable if the environment of another HSM names them.
var systemDirectories = []string{
	"/bin", "/boot", "/dev", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys",
	"/usr",
}

// ConfinementPlan is what the process of an HSM may reach.
func ConfinementPlan(c *Config, h HSM) confine.Plan {
	proxys := proxyPlaces(c)
	// A file of the proxy stays protected even if a variable such as HOME names it.
	own := slices.DeleteFunc(append(EnvironmentPlaces(c, h), PlacesOf(c, h.Module)...),
		func(path string) bool { return slices.Contains(proxys, path) })
	plan := confine.Plan{
		Strict:  h.Confine.Mode == ConfineStrict,
		Allow:   slices.Concat(own, h.Confine.Paths),
		Protect: proxys,
	}
	for _, other := range c.HSMs {
		if other.Name == h.Name {
			continue
		}
		for _, path := range EnvironmentPlaces(c, other) {
			if !isCommon(path) && !leadsToOne(path, own) {
				plan.Protect = append(plan.Protect, path)
			}
		}
	}
	return plan
}

// proxyPlaces lists the files and directories of the proxy that no library needs. Certificates and
// CA bundles are not among them: they are public, and a library may use the same.
func proxyPlaces(c *Config) []string {
	var places []string
	add := func(paths ...string) {
		for _, path := range paths {
			if filepath.IsAbs(path) {
				places = append(places, filepath.Clean(path))
			}
		}
	}
	addWithDirectory := func(path string) {
		add(path)
		dir := filepath.Dir(path)
		if filepath.IsAbs(path) && !slices.Contains(commonDirectories, dir) {
			add(dir)
		}
	}
	addWithDirectory(filepath.Join(c.Source.Dir, filepath.Base(c.Source.File)))
	addWithDirectory(c.Admin.Socket)
	addWithDirectory(c.Log.Output)
	add(c.KeyStoreDirectory, c.StateDirectory, os.Getenv(secret.CredentialsVariable))
	add(webconfig.Places(c.Metrics.WebConfig)...)
	for _, place := range c.CertificatePlaces() {
		add(place.Key)
	}
	for _, k := range c.KeyStores {
		add(k.Policy.Files...)
	}
	for _, placed := range c.SecretRefs() {
		add(placed.Ref.File)
	}
	return places
}

// ValidateConfine reports a path of confine.paths that is a file or directory of the proxy. Paths
// below or above one are allowed, because the more exact path decides.
func ValidateConfine(r *schema.Report, c *Config, at string, h HSM) {
	proxys := proxyPlaces(c)
	for i, path := range h.Confine.Paths {
		at := fmt.Sprintf("%s.paths[%d]", at, i)
		_, err := os.Stat(path)
		switch {
		case slices.Contains(proxys, filepath.Clean(path)):
			r.Errorf(at, "%s is the proxy's own, and the library of the HSM must not reach it: "+
				"give the HSM a directory of its own and name that", path)
		case errors.Is(err, fs.ErrNotExist):
			r.Warnf(at, "%s does not exist: if it is made later, the library reaches it only when "+
				"the process of the HSM is started again", path)
		}
	}
}

// EnvironmentPlaces returns the paths in the environment of an HSM.
func EnvironmentPlaces(c *Config, h HSM) []string {
	var places []string
	for _, pair := range h.Environment {
		_, value, _ := strings.Cut(pair, "=")
		for path := range strings.SplitSeq(value, ":") {
			places = append(places, PlacesOf(c, path)...)
		}
	}
	return places
}

// PlacesOf returns a path that the settings of an HSM name. If the path is in a directory below
// that of the configuration, it returns that directory too, because the files that a vendor's file
// names are mostly beside it. A relative path starts at the directory of the configuration, where
// the process runs.
func PlacesOf(c *Config, path string) []string {
	below := c.Source.Dir + "/"
	if !filepath.IsAbs(path) {
		path = filepath.Join(c.Source.Dir, path)
		if !strings.HasPrefix(path, below) {
			return nil
		}
	}
	path = filepath.Clean(path)
	if dir := filepath.Dir(path); strings.HasPrefix(dir, below) {
		return []string{path, dir}
	}
	return []string{path}
}

// isCommon reports whether a path is a common directory or belongs to the system.
func isCommon(path string) bool {
	return slices.Contains(commonDirectories, path) || slices.ContainsFunc(systemDirectories,
		func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}

// leadsToOne reports whether a path is one of others or contains one.
func leadsToOne(path string, others []string) bool {
	return slices.ContainsFunc(others,
		func(other string) bool { return other == path || strings.HasPrefix(other, path+"/") })
}

// Values of confine.mode.
const (
	ConfineDefault = "default"
	ConfineStrict  = "strict"
	ConfineOff     = "off"
)
