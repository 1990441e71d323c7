package schema

// Reads a YAML tree against the schema: unknown, repeated and missing keys, types, ranges and
// values, environment overrides, defaults, relative paths. The result holds every key of the schema
// that has a value, each of the right type.

import (
	"cmp"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/text"
)

// Reader walks the schema and the tree of one file together.
type Reader struct {
	*Report
	Schema    *Setting          // of the whole main file, also where root is one of its key stores
	Variables *variables        // that override keys
	Shorts    map[string]string // by path of a key: the section that it is the short form of
	Root      string            // path of what the file is: "", or a key store
	nodes     int               // values seen, against maxConfigNodes
}

// Read returns the settings of the file as nested maps and lists.
func (r *Reader) Read(root *yaml.Node) map[string]any {
	return r.Section(r.Schema, root, "")
}

// Section returns the settings of one section, whose path is path.
func (r *Reader) Section(s *Setting, n *yaml.Node, path string) map[string]any {
	entries := r.entries(s, n, path)
	settings := make(map[string]any, len(s.Fields))
	for _, f := range s.Fields {
		v, ok := r.Field(f, entries[f.Name], JoinPath(path, f.Name))
		if ok {
			settings[f.Name] = v
		}
	}
	return settings
}

// entries returns the keys of a mapping that the schema has. A misspelled key is reported, and
// counts as the one that was probably meant, so that one mistake causes one error.
func (r *Reader) entries(s *Setting, n *yaml.Node, path string) map[string]*yaml.Node {
	m := follow(n)
	if m == nil || m.Tag == "!!null" || !r.count(len(m.Content)) {
		return nil
	}
	if m.Kind != yaml.MappingNode {
		r.Errorf(path, "must have keys of its own: %s", strings.Join(s.fieldNames(), ", "))
		r.Broken[path] = true
		return nil
	}
	entries := make(map[string]*yaml.Node, len(s.Fields))
	lines := map[string]int{}
	slips := map[string]*yaml.Node{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := key.Value
		switch _, known := s.Field(name); {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			r.ErrorAt(place(key), path,
				"a key here is not a plain name (\"<<\" does not work here either); write the "+
					"keys out")
		case !known:
			slips[r.unknownKey(s, key, path)] = value
		case lines[name] != 0:
			r.ErrorAt(place(key), JoinPath(path, name), "is given twice, first on line %d; "+
				"remove one", lines[name])
		default:
			lines[name] = key.Line
			entries[name] = value
			r.Origins[JoinPath(path, name)] = place(value)
		}
	}
	for name, value := range slips {
		if entries[name] == nil && name != "" {
			entries[name] = value
			r.Origins[JoinPath(path, name)] = place(value)
		}
	}
	return entries
}

// unknownKey reports a key and returns the one that was probably meant.
func (r *Reader) unknownKey(s *Setting, key *yaml.Node, path string) string {
	if s.Kind == SecretKind || !PlainName.MatchString(key.Value) {
		r.ErrorAt(
			place(key), path, "has an unknown key (not shown: it could be a secret); %s",
			text.DidYouMean(key.Value, s.fieldNames()),
		)
		return ""
	}
	if len(r.Problems) > maxProblems { // not shown any more, only counted
		r.ErrorAt(place(key), path, "unknown key")
		return ""
	}
	meant := text.Near(key.Value, s.fieldNames())
	homes := r.Schema.homesOf(key.Value, "")
	if meant == "" && len(homes) > 0 && len(homes) <= maxHomes {
		r.ErrorAt(place(key), JoinPath(path, key.Value),
			"unknown key here; move it to %s", strings.Join(homes, " or "))
		return ""
	}
	r.ErrorAt(
		place(key), JoinPath(path, key.Value), "unknown key; %s",
		text.DidYouMean(key.Value, s.fieldNames()),
	)
	return meant
}

// maxHomes is how many sections an error offers for a key that stands in the wrong one.
const maxHomes = 3

// homesOf returns the sections below s with a key of this name, such as "hsm_groups[]". Those of
// secrets are left out: they stand in many sections, and what is beside them may be a secret.
func (s *Setting) homesOf(name, path string) []string {
	var homes []string
	for _, f := range s.Fields {
		if f.Name == name {
			homes = append(homes, cmp.Or(path, "the top level"))
		}
		if f.Kind == Section {
			below := JoinPath(path, f.Name)
			if f.List {
				below += "[]"
			}
			homes = append(homes, f.homesOf(name, below)...)
		}
	}
	return homes
}

// Field reads the value of one key. It returns false if the key has none.
func (r *Reader) Field(s *Setting, n *yaml.Node, path string) (any, bool) {
	m := follow(n)
	if m != nil && strings.HasPrefix(m.Tag, "!") && !strings.HasPrefix(m.Tag, "!!") {
		r.Errorf(path, "begins with !, which YAML takes for a tag; put quotes around the value")
		return nil, false
	}
	switch {
	case s.List && s.Kind == Section:
		return r.sections(s, n, path), true
	case s.List:
		return r.list(s, n, path)
	case s.Kind == Section:
		return r.Section(s, r.longForm(s, n, path), path), true
	case s.Kind == SecretKind:
		return r.secret(s, n, path), true
	}
	value, variable, ok := r.override(path)
	if ok {
		r.Origins[path] = Origin{Variable: variable}
		return r.scalar(s, value, path)
	}
	if m == nil {
		return r.absent(s, path)
	}
	if !r.count(1) || !r.scalarNode(s, m, path) {
		return nil, false
	}
	return r.scalar(s, m.Value, path)
}

// longForm is the section that a text in its place stands for.
func (r *Reader) longForm(s *Setting, n *yaml.Node, path string) *yaml.Node {
	if s.Short == "" {
		return n
	}
	r.Shorts[JoinPath(path, s.Short)] = path
	m := follow(n)
	if m == nil || m.Kind != yaml.ScalarNode || m.Tag == "!!null" {
		return n
	}
	key := &yaml.Node{
		Kind: yaml.ScalarNode, Tag: "!!str", Value: s.Short, Line: m.Line, Column: m.Column,
	}
	return &yaml.Node{
		Kind: yaml.MappingNode, Tag: "!!map", Line: m.Line, Column: m.Column,
		Content: []*yaml.Node{key, m},
	}
}

// override looks up the variable for the key at path, and that of the section that it is the short
// form of.
func (r *Reader) override(path string) (string, string, bool) {
	value, variable, ok := r.Variables.lookup(path)
	if short, has := r.Shorts[path]; has && !ok {
		return r.Variables.lookup(short)
	}
	return value, variable, ok
}

// absent is the value of a key that is not given.
func (r *Reader) absent(s *Setting, path string) (any, bool) {
	if s.HasValue && (s.Default != "" || !s.Required) {
		return r.scalar(s, s.Default, path)
	}
	if s.Required {
		r.Errorf(path, "is missing (%s)", firstSentence(s.Doc))
	}
	return nil, false
}

func (r *Reader) sections(s *Setting, n *yaml.Node, path string) []any {
	m := follow(n)
	if m == nil || m.Tag == "!!null" || len(m.Content) == 0 && m.Kind == yaml.SequenceNode {
		if s.Required {
			r.Errorf(path, "is missing (%s)", firstSentence(s.Doc))
		}
		return nil
	}
	if m.Kind != yaml.SequenceNode {
		r.Errorf(path, "must be a list: put \"- \" before each entry")
		return nil
	}
	elements := make([]any, 0, len(m.Content))
	for i, child := range m.Content {
		if !r.count(1) {
			return nil
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		r.Origins[at] = place(child)
		elements = append(elements, r.Section(s, child, at))
	}
	return elements
}

// list reads a list of scalars.
func (r *Reader) list(s *Setting, n *yaml.Node, path string) (any, bool) {
	value, variable, ok := r.Variables.lookup(path)
	m := follow(n)
	var values []string
	switch {
	case ok:
		r.Origins[path] = Origin{Variable: variable}
		values = splitList(value)
	case m == nil || m.Tag == "!!null":
		if !s.HasValue {
			return nil, false
		}
		values = splitList(s.Default)
	case m.Kind != yaml.SequenceNode:
		r.Errorf(path, "must be a list, such as [one, two]")
		return nil, false
	default:
		for i, child := range m.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			r.Origins[at] = place(child)
			if !r.count(1) {
				return nil, false
			}
			value := ""
			if r.scalarNode(s, follow(child), at) {
				value = follow(child).Value
			}
			values = append(values, value)
		}
	}
	if len(values) == 0 && s.Required {
		r.Errorf(path, "must not be empty (%s)", firstSentence(s.Doc))
	}
	elements := make([]any, len(values))
	for i, value := range values {
		at := fmt.Sprintf("%s[%d]", path, i)
		elements[i] = s.zero() // keeps the others at their places, so that they are checked
		if r.Failed[at] {
			continue
		}
		v, valid := r.scalar(s, value, at)
		if valid {
			elements[i] = v
		}
	}
	return elements, true
}

// zero stands for an element that is wrong, in a configuration that is refused.
func (s *Setting) zero() any {
	if s.Kind == Integer {
		return int64(0)
	}
	return ""
}

// count bounds the values of a file after its aliases are expanded.
func (r *Reader) count(n int) bool {
	before := r.nodes
	r.nodes += n
	if r.nodes > maxConfigNodes && before <= maxConfigNodes {
		r.ErrorAt(Origin{Line: 1, Column: 1}, r.Root, "holds more than %d values when its "+
			"aliases (*name) are expanded", maxConfigNodes)
		r.Broken[r.Root] = true
	}
	return r.nodes <= maxConfigNodes
}

// JoinPath returns the path of a key in the section at path: "a" and "b" give "a.b".
func JoinPath(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// splitList reads a list from one line of text: comma-separated, "" is empty.
func splitList(s string) []string {
	if strings.TrimSpace(s) == "" {
		return nil
	}
	values := strings.Split(s, ",")
	for i := range values {
		values[i] = strings.TrimSpace(values[i])
	}
	return values
}

// IsEmpty reports whether a value of a setting is "" or an empty list.
func IsEmpty(v any) bool {
	list, ok := v.([]any)
	return v == "" || ok && len(list) == 0
}

// follow returns the node that an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func firstSentence(doc string) string {
	first, _, _ := strings.Cut(doc, ". ")
	return strings.TrimSuffix(first, ".")
}
