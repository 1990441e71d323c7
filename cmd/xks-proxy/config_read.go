package main

// Reads a YAML tree against the schema: unknown, repeated and missing keys, types,
// ranges and values, environment overrides, defaults, relative paths. What comes
// out holds every key of the schema that has a value, each of the right type.

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/guarded"
	"xks-proxy/internal/text"
)

// reader walks the schema and the tree of one file together.
type reader struct {
	*report
	schema    *setting // of the whole main file, also where root is one of its key stores
	variables *variables
	shorts    map[string]string // by path of a key: the section that it is the short form of
	root      string            // path of what the file is: "", or a key store
	nodes     int               // values seen, against maxConfigNodes
}

// read returns the settings of the file as nested maps and lists.
func (r *reader) read(root *yaml.Node) map[string]any {
	return r.section(r.schema, root, "")
}

func (r *reader) section(s *setting, n *yaml.Node, path string) map[string]any {
	entries := r.entries(s, n, path)
	settings := make(map[string]any, len(s.Fields))
	for _, f := range s.Fields {
		v, ok := r.field(f, entries[f.Name], joinPath(path, f.Name))
		if ok {
			settings[f.Name] = v
		}
	}
	return settings
}

// entries are the keys of a mapping that the schema knows. A key that is nearly
// one is a problem, and taken for it anyway: one slip, one error.
func (r *reader) entries(s *setting, n *yaml.Node, path string) map[string]*yaml.Node {
	m := follow(n)
	if m == nil || m.Tag == "!!null" || !r.count(len(m.Content)) {
		return nil
	}
	if m.Kind != yaml.MappingNode {
		r.errorf(path, "must have keys of its own: %s", strings.Join(s.fieldNames(), ", "))
		r.broken[path] = true
		return nil
	}
	entries := make(map[string]*yaml.Node, len(s.Fields))
	lines := map[string]int{}
	slips := map[string]*yaml.Node{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := key.Value
		switch _, known := s.field(name); {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			r.errorAt(place(key), path,
				"a key here is not a plain name (\"<<\" does not work here either); write the keys out")
		case !known:
			slips[r.unknownKey(s, key, path)] = value
		case lines[name] != 0:
			r.errorAt(place(key), joinPath(path, name), "is given twice, first on line %d; remove one", lines[name])
		default:
			lines[name] = key.Line
			entries[name] = value
			r.origins[joinPath(path, name)] = place(value)
		}
	}
	for name, value := range slips {
		if entries[name] == nil && name != "" {
			entries[name] = value
			r.origins[joinPath(path, name)] = place(value)
		}
	}
	return entries
}

// unknownKey reports a key and returns the one that was probably meant.
func (r *reader) unknownKey(s *setting, key *yaml.Node, path string) string {
	if s.Kind == secretKind || !plainName.MatchString(key.Value) {
		r.errorAt(place(key), path, "has an unknown key (not shown: it could be a secret); %s", text.DidYouMean(key.Value, s.fieldNames()))
		return ""
	}
	if len(r.problems) > maxProblems { // not shown any more, only counted
		r.errorAt(place(key), path, "unknown key")
		return ""
	}
	meant := text.Near(key.Value, s.fieldNames())
	homes := r.schema.homesOf(key.Value, "")
	if meant == "" && len(homes) > 0 && len(homes) <= maxHomes {
		r.errorAt(place(key), joinPath(path, key.Value),
			"unknown key here; move it to %s", strings.Join(homes, " or "))
		return ""
	}
	r.errorAt(place(key), joinPath(path, key.Value), "unknown key; %s", text.DidYouMean(key.Value, s.fieldNames()))
	return meant
}

// maxHomes is how many sections an error offers for a key that stands in the wrong one.
const maxHomes = 3

// homesOf returns the sections below s with a key of this name, such as "hsm_groups[]". Those of
// secrets are left out: they stand in many sections, and what is beside them may be a secret.
func (s *setting) homesOf(name, path string) []string {
	var homes []string
	for _, f := range s.Fields {
		if f.Name == name {
			homes = append(homes, cmp.Or(path, "the top level"))
		}
		if f.Kind == section {
			below := joinPath(path, f.Name)
			if f.List {
				below += "[]"
			}
			homes = append(homes, f.homesOf(name, below)...)
		}
	}
	return homes
}

// field reads the value of one key; ok is false if it has none.
func (r *reader) field(s *setting, n *yaml.Node, path string) (any, bool) {
	m := follow(n)
	if m != nil && strings.HasPrefix(m.Tag, "!") && !strings.HasPrefix(m.Tag, "!!") {
		r.errorf(path, "begins with !, which YAML takes for a tag; put quotes around the value")
		return nil, false
	}
	switch {
	case s.List && s.Kind == section:
		return r.sections(s, n, path), true
	case s.List:
		return r.list(s, n, path)
	case s.Kind == section:
		return r.section(s, r.longForm(s, n, path), path), true
	case s.Kind == secretKind:
		return r.secret(s, n, path), true
	}
	value, variable, ok := r.override(path)
	if ok {
		r.origins[path] = origin{Variable: variable}
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
func (r *reader) longForm(s *setting, n *yaml.Node, path string) *yaml.Node {
	if s.Short == "" {
		return n
	}
	r.shorts[joinPath(path, s.Short)] = path
	m := follow(n)
	if m == nil || m.Kind != yaml.ScalarNode || m.Tag == "!!null" {
		return n
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.Short, Line: m.Line, Column: m.Column}
	return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: m.Line, Column: m.Column, Content: []*yaml.Node{key, m}}
}

// override looks up the variable for the key at path, and that of the section that it is the short
// form of.
func (r *reader) override(path string) (string, string, bool) {
	value, variable, ok := r.variables.lookup(path)
	if short, has := r.shorts[path]; has && !ok {
		return r.variables.lookup(short)
	}
	return value, variable, ok
}

// absent is the value of a key that is not given.
func (r *reader) absent(s *setting, path string) (any, bool) {
	if s.HasValue && (s.Default != "" || !s.Required) {
		return r.scalar(s, s.Default, path)
	}
	if s.Required {
		r.errorf(path, "is missing (%s)", firstSentence(s.Doc))
	}
	return nil, false
}

func (r *reader) sections(s *setting, n *yaml.Node, path string) []any {
	m := follow(n)
	if m == nil || m.Tag == "!!null" || len(m.Content) == 0 && m.Kind == yaml.SequenceNode {
		if s.Required {
			r.errorf(path, "is missing (%s)", firstSentence(s.Doc))
		}
		return nil
	}
	if m.Kind != yaml.SequenceNode {
		r.errorf(path, "must be a list: put \"- \" before each entry")
		return nil
	}
	elements := make([]any, 0, len(m.Content))
	for i, child := range m.Content {
		if !r.count(1) {
			return nil
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		r.origins[at] = place(child)
		elements = append(elements, r.section(s, child, at))
	}
	return elements
}

// list reads a list of scalars.
func (r *reader) list(s *setting, n *yaml.Node, path string) (any, bool) {
	value, variable, ok := r.variables.lookup(path)
	m := follow(n)
	var values []string
	switch {
	case ok:
		r.origins[path] = origin{Variable: variable}
		values = splitList(value)
	case m == nil || m.Tag == "!!null":
		if !s.HasValue {
			return nil, false
		}
		values = splitList(s.Default)
	case m.Kind != yaml.SequenceNode:
		r.errorf(path, "must be a list, such as [one, two]")
		return nil, false
	default:
		for i, child := range m.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			r.origins[at] = place(child)
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
		r.errorf(path, "must not be empty (%s)", firstSentence(s.Doc))
	}
	elements := make([]any, len(values))
	for i, value := range values {
		at := fmt.Sprintf("%s[%d]", path, i)
		elements[i] = s.zero() // keeps the others at their places, so that they are checked
		if r.failed[at] {
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
func (s *setting) zero() any {
	if s.Kind == integer {
		return int64(0)
	}
	return ""
}

// scalarNode checks what YAML made of a value, before its text is looked at.
func (r *reader) scalarNode(s *setting, m *yaml.Node, path string) bool {
	want := map[kind]string{textKind: "text", integer: "a number", boolean: "true or false", duration: "a duration such as 200ms"}[s.Kind]
	switch {
	case m.Kind != yaml.ScalarNode:
		r.errorf(path, "must be %s, not a list or a section", want)
	case m.Tag == "!!null":
		r.errorf(path, "has no value; give it %s or remove the line", want)
	case s.Number && m.Tag == "!!int":
		return true
	case s.Kind == textKind && m.Tag != "!!str" && m.Tag != "!!timestamp":
		r.errorf(path, "must be text; put quotes around the value")
	case s.Kind == boolean && m.Tag != "!!bool", s.Kind == integer && m.Tag != "!!int":
		r.errorf(path, "must be %s", want)
	default:
		return true
	}
	return false
}

// scalar turns text into the value of a setting and checks what the schema says.
// Durations stay text: they are shown as they were written.
func (r *reader) scalar(s *setting, value, path string) (any, bool) {
	switch s.Kind {
	case integer:
		n, err := checkRange(s, value, parseInteger)
		if err != nil {
			r.errorf(path, "%v", err)
			return nil, false
		}
		return n, true
	case duration:
		_, err := checkRange(s, value, parseDuration)
		if err != nil {
			r.errorf(path, "%v", err)
			return nil, false
		}
		return value, true
	case boolean:
		if value != "true" && value != "false" {
			r.errorf(path, "must be true or false")
			return nil, false
		}
		return value == "true", true
	}
	return r.text(s, value, path), true
}

func (r *reader) text(s *setting, value, path string) string {
	switch {
	case value == "" && s.Required:
		r.errorf(path, "must not be empty (%s)", firstSentence(s.Doc))
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		r.errorf(path, "holds a control character or what is no UTF-8")
	case s.OneOf != nil && !slices.Contains(s.OneOf, value):
		r.errorf(path, "%s is none of %s", quoteName(value), strings.Join(s.OneOf, ", "))
	case s.Path == "log" && (value == "stderr" || value == "stdout"):
	case s.Path != "":
		return guarded.ResolvePath(r.dirOf(r.root), value)
	}
	return value
}

// count bounds the values of a file after its aliases are expanded.
func (r *reader) count(n int) bool {
	before := r.nodes
	r.nodes += n
	if r.nodes > maxConfigNodes && before <= maxConfigNodes {
		r.errorAt(origin{Line: 1, Column: 1}, r.root, "holds more than %d values when its aliases (*name) are expanded", maxConfigNodes)
		r.broken[r.root] = true
	}
	return r.nodes <= maxConfigNodes
}

func joinPath(path, name string) string {
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

func isEmpty(v any) bool {
	list, ok := v.([]any)
	return v == "" || ok && len(list) == 0
}

// follow goes from an alias to what it stands for.
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
