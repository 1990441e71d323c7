package config

// The effective configuration as YAML: what the file says, what the environment
// overrides, and every default. Secrets are shown as references; nothing here has
// read one.

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/hsm/pkcs11"
)

// Show writes a configuration file with every setting as it is in use. Loading it gives the same
// configuration, unless the key stores of the directory are too many for one file. Each value that
// is not in the original file has a comment that says where it is from.
func Show(w io.Writer, l *Loaded) error {
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	root := l.node(Schema, l.Settings, "")
	root.Content[0].HeadComment = l.heading()
	err := encoder.Encode(root)
	if err != nil {
		return fmt.Errorf("the configuration cannot be written as YAML: %w", err)
	}
	return encoder.Close()
}

// heading explains the file that Show writes.
func (l *Loaded) heading() string {
	return "The configuration of " + strconv.Quote(
		l.Report.File,
	) + " as it is in use. Values that are not in that file are marked.\n" +
		"Paths are absolute, except in the arguments of secret commands and the environment of " +
		"HSMs:\n" +
		"those start at the directory of the file, " + strconv.Quote(
		l.Report.Dir,
	) + "."
}

func (l *Loaded) node(s *schema.Setting, settings map[string]any, path string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, f := range s.Fields {
		value, ok := settings[f.Name]
		if !ok {
			continue
		}
		at := schema.JoinPath(path, f.Name)
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: f.Name}
		if f.Name == "overrides" {
			key.HeadComment = profileValues(s, settings)
		}
		n.Content = append(n.Content, key, l.valueNode(f, value, at))
	}
	return n
}

// profileValues lists the fields of an HSM's profile that are not overridden. They are a comment:
// as settings, they would not change with the profile in the next version of the program.
func profileValues(s *schema.Setting, settings map[string]any) string {
	name, _ := settings["profile"].(string)
	given, _ := settings["overrides"].(map[string]any)
	overrides, ok := s.Field("overrides")
	profile, known := pkcs11.LookupProfile(name)
	if !ok || !known {
		return ""
	}
	var kept []string
	for _, field := range []struct{ name, value string }{
		{"iv_source", string(profile.IVSource)},
		{"iv_size", strconv.Itoa(profile.IVSize)},
		{"iv_bits", string(profile.IVBits)},
		{"mechanism", fmt.Sprintf("0x%X", profile.Mechanism)},
		{"max_aad", strconv.Itoa(profile.MaxAAD)},
		{"max_data", strconv.Itoa(profile.MaxData)},
		{"read_only_sessions", strconv.FormatBool(profile.ReadOnlySessions)},
		{"invalid_ciphertext", CodeList(profile.InvalidCiphertext)},
		{"ambiguous", CodeList(profile.Ambiguous)},
	} {
		value, replaced := given[field.name]
		if f, _ := overrides.Field(field.name); replaced && (!f.List || !schema.IsEmpty(value)) {
			continue
		}
		kept = append(kept, field.name+": "+field.value)
	}
	if len(kept) == 0 {
		return ""
	}
	return "from the profile " + name + ":\n  " + strings.Join(kept, "\n  ")
}

func (l *Loaded) valueNode(s *schema.Setting, value any, path string) *yaml.Node {
	var n *yaml.Node
	switch {
	case path == DirectoryKey && l.Report.Directory != "" &&
		(len(l.Report.Stores) > 0 || !l.Report.Found):
		return l.directoryNode()
	case s.List && s.Kind == schema.Section:
		n = &yaml.Node{Kind: yaml.SequenceNode}
		for i, element := range value.([]any) {
			at := fmt.Sprintf("%s[%d]", path, i)
			child := l.node(s, element.(map[string]any), at)
			if file, _, ok := l.Report.StoreOf(at); ok {
				child.HeadComment = "from " + strconv.Quote(file.Name)
			}
			n.Content = append(n.Content, child)
		}
		return n
	case s.Kind == schema.Section:
		n = l.node(s, value.(map[string]any), path)
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle // {} and not nothing
		}
		return n
	case s.Kind == schema.SecretKind:
		return l.secretNode(s, value.(map[string]any), path)
	case s.List:
		n = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, element := range value.([]any) {
			n.Content = append(n.Content, scalarNode(s, element))
		}
	default:
		n = scalarNode(s, value)
	}
	n.LineComment = l.comment(path)
	return n
}

// directoryNode is not a directory: its key stores are shown as those of the file.
func (l *Loaded) directoryNode() *yaml.Node {
	n := scalarNode(&schema.Setting{Kind: schema.TextKind}, "")
	n.LineComment = fmt.Sprintf(
		"%q: its %d key stores are above",
		l.Report.Directory,
		len(l.Report.Stores),
	)
	if !l.Report.Found {
		n.LineComment = fmt.Sprintf("%q does not exist", l.Report.Directory)
	}
	return n
}

// secretNode is a reference on one line.
func (l *Loaded) secretNode(s *schema.Setting, settings map[string]any, path string) *yaml.Node {
	n := l.node(s, settings, path)
	n.Style = yaml.FlowStyle
	for _, part := range n.Content {
		n.LineComment += part.LineComment
		part.LineComment = ""
	}
	return n
}

// comment says where a value is from, unless it stands in the file.
func (l *Loaded) comment(path string) string {
	at, ok := l.Report.Origins[path]
	switch {
	case !ok:
		return "default"
	case at.Variable != "":
		return "from " + at.Variable
	default:
		return ""
	}
}

func scalarNode(s *schema.Setting, value any) *yaml.Node {
	n := &yaml.Node{}
	if number, ok := value.(int64); ok && s.Hex {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprintf("0x%X", number)}
	}
	switch v := value.(type) {
	case string:
		n.SetString(v) // quotes what would be read as something else
	case int64:
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v, 10)}
	case bool:
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}
	}
	return n
}
