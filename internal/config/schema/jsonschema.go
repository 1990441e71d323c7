package schema

// The schema of the configuration file as JSON Schema, for editors and for pipelines that have no
// xks-proxy. It allows every configuration that loads. `config check` checks what needs more
// than one key.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// jsonSchemaDraft is the draft that most editors support (yaml-language-server among them).
const jsonSchemaDraft = "http://json-schema.org/draft-07/schema#"

// durationForm is what time.ParseDuration reads, without a minus sign.
const durationForm = `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`

// jsonSchema is a node of a JSON Schema, with the keywords that we use.
type jsonSchema struct {
	Draft                string                 `json:"$schema,omitempty"`
	Title                string                 `json:"title,omitempty"`
	Description          string                 `json:"description,omitempty"`
	Type                 []string               `json:"type,omitempty"`
	Enum                 []string               `json:"enum,omitempty"`
	Default              any                    `json:"default,omitempty"`
	Pattern              string                 `json:"pattern,omitempty"`
	MinLength            int                    `json:"minLength,omitempty"`
	Minimum              *int64                 `json:"minimum,omitempty"`
	Maximum              *int64                 `json:"maximum,omitempty"`
	Items                *jsonSchema            `json:"items,omitempty"`
	MinItems             int                    `json:"minItems,omitempty"`
	Properties           map[string]*jsonSchema `json:"properties,omitempty"`
	Required             []string               `json:"required,omitempty"`
	MinProperties        int                    `json:"minProperties,omitempty"`
	MaxProperties        int                    `json:"maxProperties,omitempty"`
	AdditionalProperties *bool                  `json:"additionalProperties,omitempty"`
}

// WriteJSONSchema writes the schema of a file. Keys in optional need not be given, though the
// schema requires them.
func WriteJSONSchema(w io.Writer, of *Setting, title string, optional ...string) error {
	root := mappingSchema(of)
	root.Title = title
	for _, name := range optional {
		root.Required = without(root.Required, name)
	}
	root.Draft = jsonSchemaDraft
	root.Type = []string{"object"}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(root)
	if err != nil {
		return fmt.Errorf("the schema cannot be written as JSON: %w", err)
	}
	return nil
}

func without(names []string, name string) []string {
	var kept []string
	for _, n := range names {
		if n != name {
			kept = append(kept, n)
		}
	}
	return kept
}

// mappingSchema is that of a section, or of one element of a list of sections.
func mappingSchema(s *Setting) *jsonSchema {
	no := false
	n := &jsonSchema{Properties: map[string]*jsonSchema{}, AdditionalProperties: &no}
	for _, f := range s.Fields {
		n.Properties[f.Name] = f.jsonSchema()
		if f.mustBeGiven() {
			n.Required = append(n.Required, f.Name)
		}
	}
	n.Type = []string{"object", "null"} // "key:" with nothing but comments below
	if len(n.Required) > 0 {
		n.Type = []string{"object"}
	}
	return n
}

// mustBeGiven reports whether a file without the key does not load.
func (s *Setting) mustBeGiven() bool {
	if s.Kind == Section && !s.List {
		for _, f := range s.Fields {
			if f.mustBeGiven() {
				return true
			}
		}
		return false
	}
	return s.Required && s.Default == ""
}

func (s *Setting) jsonSchema() *jsonSchema {
	n := s.elementSchema()
	if s.List {
		n = &jsonSchema{Type: []string{"array", "null"}, Items: n}
		if s.Required {
			n.MinItems = 1
		}
		if s.mustBeGiven() {
			n.Type = []string{"array"}
		}
	}
	n.Description, n.Default = s.Doc, s.jsonDefault()
	if s.Kind == Duration {
		n.Description = strings.TrimSuffix(
			n.Description,
			".",
		) + fmt.Sprintf(
			". From %s to %s.",
			s.Min,
			s.Max,
		)
	}
	return n
}

// elementSchema is that of the value or, for a list, of each element.
func (s *Setting) elementSchema() *jsonSchema {
	switch s.Kind {
	case Section:
		n := mappingSchema(s)
		if short, ok := s.Field(s.Short); ok {
			n.Type, n.MinLength = append(n.Type, "string"), short.elementSchema().MinLength
		}
		return n
	case SecretKind:
		n := mappingSchema(s)
		n.MaxProperties = 1
		for _, place := range n.Properties {
			place.Default = nil // exactly one is given
		}
		if s.Required {
			n.Type, n.MinProperties = []string{"object"}, 1
		}
		return n
	case Boolean:
		return &jsonSchema{Type: []string{"boolean"}}
	case Integer:
		return &jsonSchema{
			Type:    []string{"integer"},
			Minimum: limitOf(s.Min),
			Maximum: limitOf(s.Max),
		}
	case Duration:
		n := &jsonSchema{Type: []string{"string"}, Pattern: durationForm}
		if s.Min == "0s" { // written as 0, with quotes or without
			var zero int64
			n.Pattern += "|^[+-]?0$"
			n.Type, n.Minimum, n.Maximum = []string{"string", "integer"}, &zero, &zero
		}
		return n
	}
	n := &jsonSchema{Type: []string{"string"}, Enum: s.OneOf, Pattern: s.Pattern}
	if s.Number {
		n.Type = []string{"string", "integer"}
	}
	if s.Required && !s.List && len(s.OneOf) == 0 {
		n.MinLength = 1
	}
	return n
}

// jsonDefault is nil without a default that says something.
func (s *Setting) jsonDefault() any {
	if s.Default == "" || s.IsMapping() {
		return nil
	}
	switch {
	case s.List:
		return splitList(s.Default)
	case s.Kind == Integer:
		return limitOf(s.Default)
	case s.Kind == Boolean:
		return s.Default == "true"
	}
	return s.Default
}

// limitOf is nil where the tags say nothing.
func limitOf(text string) *int64 {
	n, err := parseInteger(text)
	if err != nil {
		return nil
	}
	return &n
}
