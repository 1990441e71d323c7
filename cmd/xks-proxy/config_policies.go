package main

// The policies of key stores: which files they are from, and what is wrong with
// them, said as of the configuration itself.

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/internal/guarded"
	"xks-proxy/pkg/authz"
)

// loadPolicies reads the policies of every key store that has some; the result is
// by key store. Key stores with the same files share one set: a thousand of them are read
// once. What is wrong goes to the report.
func loadPolicies(r *report, c *config) map[string]*authz.Policies {
	byStore := map[string]*authz.Policies{}
	byFiles := map[string]*authz.Policies{}
	good := map[string]bool{} // likewise
	names := policyNames(c)
	for i, k := range c.KeyStores {
		if len(k.Policy.Files) == 0 {
			continue
		}
		files := strings.Join(k.Policy.Files, "\x00")
		policies, known := byFiles[files]
		if !known {
			policies = loadPolicyFiles(r, policyFilesKey(i), k.Policy.Files)
			byFiles[files] = policies
			good[files] = policies != nil && checkPolicyNames(r, names, policyFilesKey(i), policies)
		}
		if good[files] { // a wrong name is the cause then, and reported
			checkPolicyPermits(r, policyFilesKey(i), k.Name, policies)
		}
		byStore[k.Name] = policies
	}
	return byStore
}

func policyFilesKey(keyStore int) string { return storeKey(keyStore, "policy.files") }

// loadPolicyFiles is nil after an error, which is in the report under the key at.
func loadPolicyFiles(r *report, at string, paths []string) *authz.Policies {
	good := true
	for i, path := range paths {
		key := fmt.Sprintf("%s[%d]", at, i)
		err := checkPolicyPath(r, key, path)
		if err != nil {
			r.errorf(key, "%v", err)
		}
		good = good && !r.failed[key]
	}
	if !good {
		return nil
	}
	policies, warnings, err := authz.Load(paths...)
	if err != nil {
		for _, one := range separate(err) {
			r.problems = append(r.problems, r.policyProblem(at, one))
		}
		r.failed[at] = true
		return nil
	}
	for _, w := range warnings {
		r.warnings = append(r.warnings, warning(r.policyProblem(at, w)))
	}
	return policies
}

// checkPolicyPath refuses a file that somebody else can change: who changes a
// policy decides who uses the keys. A directory draws a warning only, because Kubernetes mounts them open and read-only.
func checkPolicyPath(r *report, at, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return guarded.Problem(path, err)
	}
	if !info.IsDir() {
		return guarded.CheckUnwritable(path, info)
	}
	if info.Mode().Perm()&guarded.WritableByOthers != 0 {
		r.warnf(at, "%s can be changed by others (mode %04o), who could add a policy; run: chmod go-w %s", path, info.Mode().Perm(), path)
	}
	files, err := filepath.Glob(filepath.Join(escapeGlob(path), "*.cedar"))
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

// policyProblem places a finding in the policy file or, if it is about the whole set, at the key that names the files.
func (r *report) policyProblem(at string, err error) problem {
	var p authz.Problem
	if !errors.As(err, &p) {
		return r.problemAt(r.origin(at), at, err.Error())
	}
	place := p
	p.File, p.Line, p.Column = "", 0, 0
	if place.File == "" {
		return r.problemAt(r.origin(at), at, strings.TrimSpace(p.Error()))
	}
	return problem{File: place.File, Origin: origin{Line: place.Line, Column: place.Column}, Message: strings.TrimSpace(p.Error())}
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

func escapeGlob(path string) string { return globSigns.Replace(path) }

// validatePolicy is about the keys; the files are read later (loadPolicies).
func validatePolicy(r *report, at string, p policyConfig) {
	for i, path := range p.Files {
		key := fmt.Sprintf("%s.files[%d]", at, i)
		switch {
		case path == "":
			r.errorf(key, "is empty; name a file or a directory")
		case slices.Index(p.Files, path) < i:
			r.errorf(key, "%s is listed twice", path)
		}
	}
	if len(p.Files) == 0 && p.Mode == string(authz.ModeShadow) {
		r.errorf(at+".mode", "is shadow and there is no policy; name its files, or remove the mode")
	}
}
