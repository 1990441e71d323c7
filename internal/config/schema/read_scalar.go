package schema

// Values: their type, range and allowed characters.

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
	"xks-proxy/internal/guarded"

	"go.yaml.in/yaml/v3"
)

// scalarNode checks what YAML made of a value, before its text is looked at.
func (r *Reader) scalarNode(s *Setting, m *yaml.Node, path string) bool {
	want := map[kind]string{
		TextKind: "text", Integer: "a number", Boolean: "true or false",
		Duration: "a duration such as 200ms",
	}[s.Kind]
	switch {
	case m.Kind != yaml.ScalarNode:
		r.Errorf(path, "must be %s, not a list or a section", want)
	case m.Tag == "!!null":
		r.Errorf(path, "has no value; give it %s or remove the line", want)
	case s.Number && m.Tag == "!!int":
		return true
	case s.Kind == TextKind && m.Tag != "!!str" && m.Tag != "!!timestamp":
		r.Errorf(path, "must be text; put quotes around the value")
	case s.Kind == Boolean && m.Tag != "!!bool", s.Kind == Integer && m.Tag != "!!int":
		r.Errorf(path, "must be %s", want)
	default:
		return true
	}
	return false
}

// scalar turns text into the value of a setting and checks what the schema says.
// Durations stay text: they are shown as they were written.
func (r *Reader) scalar(s *Setting, value, path string) (any, bool) {
	switch s.Kind {
	case Integer:
		n, err := checkRange(s, value, parseInteger)
		if err != nil {
			r.Errorf(path, "%v", err)
			return nil, false
		}
		return n, true
	case Duration:
		_, err := checkRange(s, value, ParseDuration)
		if err != nil {
			r.Errorf(path, "%v", err)
			return nil, false
		}
		return value, true
	case Boolean:
		if value != "true" && value != "false" {
			r.Errorf(path, "must be true or false")
			return nil, false
		}
		return value == "true", true
	}
	return r.text(s, value, path), true
}

func (r *Reader) text(s *Setting, value, path string) string {
	switch {
	case value == "" && s.Required:
		r.Errorf(path, "must not be empty (%s)", firstSentence(s.Doc))
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		r.Errorf(path, "holds a control character or invalid UTF-8")
	case s.OneOf != nil && !slices.Contains(s.OneOf, value):
		r.Errorf(path, "%s is not one of %s", QuoteName(value), strings.Join(s.OneOf, ", "))
	case s.Path == "log" && (value == "stderr" || value == "stdout"):
	case s.Path != "":
		return guarded.ResolvePath(r.DirOf(r.Root), value)
	}
	return value
}
