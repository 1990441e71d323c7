package schema

// The reference of all keys as Markdown, made from the schema: what
// docs/configuration.md holds and `config reference` prints.

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
)

// referenceIntro is what stands before the tables.
//
//go:embed reference.md
var referenceIntro string

// WriteDocument writes the reference of a whole file.
func WriteDocument(w io.Writer, root *Setting) error {
	var b strings.Builder
	b.WriteString(referenceIntro)
	referTo(&b, root, "")
	_, err := io.WriteString(w, b.String())
	return err
}

// referTo writes a table of the keys of a section, then its sections.
func referTo(b *strings.Builder, s *Setting, path string) {
	title := path
	if path == "" {
		title = "Top level"
	} else {
		title = "`" + title + "`"
	}
	fmt.Fprintf(b, "\n### %s\n\n", title)
	if s.Doc != "" {
		b.WriteString(s.describeMeaning() + "\n\n")
	}
	b.WriteString("| key | type | default | environment | meaning |\n|---|---|---|---|---|\n")
	for _, f := range s.Fields {
		at := JoinPath(path, f.Name)
		fmt.Fprintf(
			b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.describeType(), f.describeDefault(),
			describeVariable(f, at), f.describeMeaning(),
		)
	}
	for _, f := range s.Fields {
		if f.Kind != Section {
			continue
		}
		at := JoinPath(path, f.Name)
		if f.List {
			at += "[]"
		}
		referTo(b, f, at)
	}
}

// describeType is the type with what it allows.
func (s *Setting) describeType() string {
	values := make([]string, 0, len(s.OneOf))
	for _, v := range s.OneOf {
		values = append(values, "`"+v+"`")
	}
	switch {
	case len(values) > 0:
		return strings.Join(values, ", ")
	case s.Hex && s.List:
		return s.typeName()
	case s.Min != "" && !s.Hex:
		return fmt.Sprintf("%s, %s to %s", s.typeName(), s.Min, s.Max)
	default:
		return s.typeName()
	}
}

func (s *Setting) describeDefault() string {
	switch {
	case s.Default != "" && s.List:
		return "`[\"" + s.Default + "\"]`"
	case s.Default != "":
		return "`" + s.Default + "`"
	case s.Required:
		return "required"
	case s.HasValue && s.List:
		return "`[]`"
	case s.HasValue:
		return "`\"\"`"
	default:
		return ""
	}
}

// describeMeaning marks what needs a restart and what loosens; keys of a section that needs a
// restart are not marked again.
func (s *Setting) describeMeaning() string {
	text := escapeTable(s.Doc)
	if s.Restart {
		text = "**restart** " + text
	}
	if s.loosens != "" {
		text += " " + s.loosens
	}
	return text
}

func describeVariable(s *Setting, path string) string {
	switch s.Kind {
	case Section:
		if s.Short != "" {
			return "`" + indexed(path) + "`"
		}
		return ""
	case SecretKind:
		names := make([]string, 0, len(s.Fields))
		for _, f := range s.Fields {
			names = append(names, strings.ToUpper(f.Name))
		}
		return "`" + indexed(path) + "_`" + strings.Join(names, ", ")
	default:
		return "`" + indexed(path) + "`"
	}
}

// indexed is the name of the variable for the first entry of every list.
func indexed(path string) string {
	return EnvironmentName(strings.ReplaceAll(path, "[]", "[0]"))
}

func escapeTable(s string) string {
	return strings.ReplaceAll(s, "|", "\\|")
}
