package schema

// Overrides from the environment: XKS_ and the path of the key. The variables that
// name nothing are errors, because a misspelled override is worse than none.

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"xks-proxy/internal/text"
)

// The variables that override no key of the file.
const (
	// ConfigVariable names the configuration file.
	ConfigVariable = EnvironmentPrefix + "CONFIG"
	// SocketVariable overrides admin.socket, for the proxy and for the commands that talk to it.
	SocketVariable = EnvironmentPrefix + "ADMIN_SOCKET"
)

// variables are the XKS_ variables of an environment and what became of them.
type variables struct {
	values map[string]string // by name
	used   map[string]bool
	keys   map[string]bool // names that would have been a key of this file
}

// ReadVariables reads the XKS_ variables of NAME=value pairs, as from os.Environ.
func ReadVariables(environ []string) *variables {
	v := &variables{values: map[string]string{}, used: map[string]bool{}, keys: map[string]bool{}}
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, EnvironmentPrefix) {
			v.values[name] = value
		}
	}
	return v
}

// lookup returns the override of the key at path, and the variable it is from.
func (v *variables) lookup(path string) (string, string, bool) {
	name := EnvironmentName(path)
	v.keys[name] = true
	value, ok := v.values[name]
	if ok {
		v.used[name] = true
	}
	return value, name, ok
}

// has reports whether the key at path is overridden.
func (v *variables) has(path string) bool {
	_, ok := v.values[EnvironmentName(path)]
	return ok
}

// ServiceVariable matches the variables that Kubernetes sets in every container for a Service named
// "xks" or "xks-…". They are not mistakes of the operator.
var ServiceVariable = regexp.MustCompile(
	`_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT$|` +
		`_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`,
)

// ReportUnused reports the variables that name no key. holders are the variables
// that secret references point to.
func (v *variables) ReportUnused(r *Report, holders []string) {
	for _, name := range slices.Sorted(maps.Keys(v.values)) {
		if v.used[name] || name == ConfigVariable || slices.Contains(holders, name) ||
			ServiceVariable.MatchString(name) {
			continue
		}
		known := slices.Sorted(maps.Keys(v.keys))
		near := text.Near(name, lowerAll(known))
		hint := "XKS_ variables override keys of the file, such as XKS_SERVER_LISTEN " +
			"(docs/configuration.md lists them); unset it"
		if near != "" {
			hint = "did you mean " + strings.ToUpper(near) + "?"
		}
		r.ErrorAt(Origin{Variable: name}, "", "names no key of this file; %s", hint)
	}
}

func lowerAll(names []string) []string {
	lower := make([]string, 0, len(names))
	for _, name := range names {
		lower = append(lower, strings.ToLower(name))
	}
	return lower
}

// ChildEnvironment returns the environment of this process for a child process, without the
// variables that begin with XKS_, followed by more (NAME=value). Secrets under other names were
// removed from it (see secret.TakeVariables).
func ChildEnvironment(more ...string) []string {
	var kept []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, EnvironmentPrefix) {
			kept = append(kept, pair)
		}
	}
	return append(kept, more...)
}
