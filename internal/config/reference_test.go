package config

// The documents that go with the schema: docs/configuration.md is made from it,
// configs/xks-proxy.yaml must agree with it.

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

// Every key has what a reader of the reference needs.
func TestSchemaIsComplete(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		if !name.MatchString(s.Name) {
			t.Errorf("%s: the name does not look like the others", path)
		}
		if len(s.Doc) < 10 || !strings.HasSuffix(s.Doc, ".") {
			t.Errorf("%s: no sentence about it: %q", path, s.Doc)
		}
		if s.Kind == schema.Duration && (s.Min == "" || s.Max == "") ||
			s.Kind == schema.Integer && (s.Min == "" || s.Max == "") {
			t.Errorf("%s: a number without a range", path)
		}
		if s.Default != "" {
			r := &schema.Reader{
				Schema:    Schema,
				Report:    schema.NewReport(&schema.Source{Origins: map[string]schema.Origin{}}),
				Variables: schema.ReadVariables(nil), Shorts: map[string]string{},
			}
			_, ok := r.Field(s, nil, path)
			if !ok || r.Err() != nil {
				t.Errorf("%s: the default %q is not allowed: %v", path, s.Default, r.Err())
			}
		}
	})
}

// The commented configuration is good as it stands, and with every setting in it
// switched on.
func TestCommentedConfigurationLoads(t *testing.T) {
	commented := testkit.ReadCommented()
	for name, text := range map[string]string{"as it stands": commented,
		"all settings": testkit.CommentedSetting.ReplaceAllString(commented, "$1$2")} {
		l := Parse("xks-proxy.yaml", "/etc/xks-proxy", []byte(text), nil)
		err := l.Report.Err()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(l.Report.Warnings) > 0 {
			t.Errorf("%s: %v", name, l.Report.Warnings)
		}
	}
}

// The commented configuration shows every key, and each setting that is commented
// out shows its default.
func TestCommentedConfigurationIsComplete(t *testing.T) {
	commented := testkit.ReadCommented()
	off := map[int]bool{}
	for i, line := range strings.Split(commented, "\n") {
		off[i+1] = testkit.CommentedSetting.MatchString(line)
	}
	var document yaml.Node
	err := yaml.Unmarshal(
		[]byte(testkit.CommentedSetting.ReplaceAllString(commented, "$1$2")), &document,
	)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var examples []string // lists of sections that are commented out: what is in them is no default
	visitKeys(
		Schema,
		document.Content[0],
		"",
		func(s *schema.Setting, key, value *yaml.Node, path string) {
			seen[path] = true
			if s.Kind == schema.SecretKind { // three of the four places stand in a comment
				seen[path+" is a secret"] = true
			}
			if !off[key.Line] ||
				slices.ContainsFunc(
					examples, func(list string) bool { return strings.HasPrefix(path, list) },
				) {
				return
			}
			if s.List && s.IsMapping() {
				examples = append(examples, path+"[]")
			}
			if got, want := flat(value), s.Default; got != want && s.HasValue {
				t.Errorf(
					"line %d: %s is commented out as %q; its default is %q", key.Line, path, got,
					want,
				)
			}
		},
	)
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		path = strings.ReplaceAll(path, "[0]", "[]")
		if !seen[path] && !seen[schema.ParentPath(path)+" is a secret"] {
			t.Errorf("configs/xks-proxy.yaml does not show %s", path)
		}
	})
	for _, place := range []string{"{file: PATH}", "{env: NAME}", "{credential: NAME}",
		"{command: [PROGRAM, ARGUMENT, ...]}"} {
		if !strings.Contains(commented, place) {
			t.Errorf("configs/xks-proxy.yaml does not explain %s", place)
		}
	}
}

// flat is a value as it would be a default: lists comma-separated.
func flat(n *yaml.Node) string {
	values := []string{n.Value}
	for i, v := range n.Content {
		values = append(values[:i], v.Value)
	}
	return strings.Join(values, ",")
}

// visitKeys visits every key of a tree, in lists of every element, with [] for the
// number.
func visitKeys(
	s *schema.Setting,
	n *yaml.Node,
	path string,
	visit func(s *schema.Setting, key, value *yaml.Node, path string),
) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := s.Field(key.Value)
		if !ok {
			continue
		}
		at := schema.JoinPath(path, f.Name)
		visit(f, key, value, at)
		switch {
		case f.List && f.IsMapping():
			for _, element := range value.Content {
				visitKeys(f, element, at+"[]", visit)
			}
		case f.IsMapping():
			visitKeys(f, value, at, visit)
		}
	}
}
