package schema

// Reads secret references of a YAML tree: exactly one place each, and never the secret itself.

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/guarded"
)

// secret reads a reference. A reference in the environment replaces the one of the
// file as a whole.
func (r *Reader) secret(s *Setting, n *yaml.Node, path string) map[string]any {
	_, own, ok := r.Variables.lookup(path)
	if ok {
		r.ErrorAt(Origin{Variable: own}, path, "a secret is never given itself; set %s_FILE, or "+
			"set %s_ENV to the name of the variable that holds it", own, own)
		return nil
	}
	overridden := slices.ContainsFunc(
		s.fieldNames(), func(name string) bool { return r.Variables.has(JoinPath(path, name)) },
	)
	if overridden {
		n = nil
	}
	m := follow(n)
	if m != nil && m.Kind != yaml.MappingNode && m.Tag != "!!null" {
		r.Errorf(path, "a secret is never written into this file; say where it is: {file: PATH}, "+
			"{env: NAME}, {credential: NAME} or {command: [PROGRAM, ARGUMENT]}")
		return nil
	}
	given := r.Section(s, n, path)
	r.resolveProgram(given, path)
	var names []string
	for _, f := range s.Fields {
		if _, ok := r.Origins[JoinPath(path, f.Name)]; ok {
			names = append(names, f.Name)
		} else {
			delete(given, f.Name)
		}
	}
	if overridden {
		r.Origins[path] = r.Origin(JoinPath(path, names[0]))
	}
	switch {
	case len(names) > 1:
		r.Errorf(
			path, "has %s; exactly one of file, env, credential and command must be given",
			strings.Join(names, " and "),
		)
	case len(names) == 0 && !s.Required && (m == nil || len(m.Content) == 0):
	case len(names) == 0:
		r.Errorf(path, "is missing: say where the secret is with one of file, env, credential "+
			"and command")
	case IsEmpty(given[names[0]]):
		r.Errorf(JoinPath(path, names[0]), "must not be empty")
	}
	return given
}

// resolveProgram makes the program of a command absolute if it is named by a path: it starts at the
// directory of the file, as other paths do.
func (r *Reader) resolveProgram(secret map[string]any, path string) {
	command, _ := secret["command"].([]any)
	if len(command) == 0 {
		return
	}
	program, ok := command[0].(string)
	if ok && strings.Contains(program, "/") {
		command[0] = guarded.ResolvePath(r.DirOf(path), program)
	}
}
