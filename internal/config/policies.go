package config

// The policies of key stores: where they are read from, and their problems, which are reported like
// those of the configuration.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
	"xks-proxy/pkg/authz"
)

// LoadPolicies reads the policies of every key store that has some, by name of the key store. Key
// stores with the same files share one set, which is read once. Problems go to the report.
func LoadPolicies(r *schema.Report, c *Config) map[string]*authz.Policies {
	byStore := map[string]*authz.Policies{}
	byFiles := map[string]*authz.Policies{}
	good := map[string]bool{} // likewise
	names := PolicyNames(c)
	for i, k := range c.KeyStores {
		if len(k.Policy.Files) == 0 {
			continue
		}
		files := strings.Join(k.Policy.Files, "\x00")
		policies, known := byFiles[files]
		if !known {
			policies = LoadPolicyFiles(r, PolicyFilesKey(i), k.Policy.Files)
			byFiles[files] = policies
			good[files] = policies != nil && CheckPolicyNames(r, names, PolicyFilesKey(i), policies)
		}
		if good[files] { // or else a wrong name is the cause, and reported
			CheckPolicyPermits(r, PolicyFilesKey(i), k.Name, policies)
		}
		byStore[k.Name] = policies
	}
	return byStore
}

// PolicyFilesKey is the key of the policy files of a key store, by its index.
func PolicyFilesKey(keyStore int) string { return schema.StoreKey(keyStore, "policy.files") }

// LoadPolicyFiles reads policy files. It returns nil after an error, which it reports under the key
// at.
func LoadPolicyFiles(r *schema.Report, at string, paths []string) *authz.Policies {
	good := true
	for i, path := range paths {
		key := fmt.Sprintf("%s[%d]", at, i)
		err := checkPolicyPath(r, key, path)
		if err != nil {
			r.Errorf(key, "%v", err)
		}
		good = good && !r.Failed[key]
	}
	if !good {
		return nil
	}
	policies, warnings, err := authz.Load(paths...)
	if err != nil {
		for _, one := range separate(err) {
			r.Problems = append(r.Problems, r.PolicyProblem(at, one))
		}
		r.Failed[at] = true
		return nil
	}
	for _, w := range warnings {
		r.Warnings = append(r.Warnings, schema.Warning(r.PolicyProblem(at, w)))
	}
	return policies
}

// checkPolicyPath refuses a file that others can change, because a policy decides who uses the
// keys. For a directory it only warns, because Kubernetes mounts directories open and read-only.
func checkPolicyPath(r *schema.Report, at, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return guarded.Problem(path, err)
	}
	if !info.IsDir() {
		return guarded.CheckUnwritable(path, info)
	}
	if info.Mode().Perm()&guarded.WritableByOthers != 0 {
		r.Warnf(at, "%s can be changed by others (mode %04o), who could add a policy; run: chmod "+
			"go-w %s", path, info.Mode().Perm(), path)
	}
	files, err := filepath.Glob(filepath.Join(EscapeGlob(path), "*.cedar"))
	if err != nil {
		return fmt.Errorf("%s cannot be searched: %w", path, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return guarded.Problem(file, err)
		}
		err = guarded.CheckUnwritable(file, info)
		if err != nil {
			return err
		}
	}
	return nil
}

// separate takes errors.Join apart.
func separate(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

var globSigns = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// EscapeGlob returns a pattern for filepath.Glob that matches path only.
func EscapeGlob(path string) string { return globSigns.Replace(path) }

// validatePolicy is about the keys; the files are read later (LoadPolicies).
func validatePolicy(r *schema.Report, at string, p Policies) {
	for i, path := range p.Files {
		key := fmt.Sprintf("%s.files[%d]", at, i)
		switch {
		case path == "":
			r.Errorf(key, "is empty; name a file or a directory")
		case slices.Index(p.Files, path) < i:
			r.Errorf(key, "%s is listed twice", path)
		}
	}
	if len(p.Files) == 0 && p.Mode == string(authz.ModeShadow) {
		r.Errorf(at+".mode", "is shadow and there is no policy; name its files, or remove the mode")
	}
}
