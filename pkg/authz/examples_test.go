package authz

// The examples of configs/policies and docs/policies.md do what they say.

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const examples = "../../configs/policies"

// Every example loads without a warning and decides each of its cases as it says.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(examples, "*.cedar"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Fatalf("%d examples", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			p, warnings, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %v", w)
			}
			results, err := RunCaseFile(
				p, KeyStore{}, strings.TrimSuffix(file, ".cedar")+".cases.jsonl",
			)
			if err != nil {
				t.Fatal(err)
			}
			if len(results.Cases) < 8 {
				t.Errorf("only %d cases", len(results.Cases))
			}
			var allowed, denied int
			for _, r := range results.Cases {
				switch r.Case.Expect {
				case expectAllow:
					allowed++
				case expectDeny:
					denied++
				default:
					t.Errorf("%s: expects nothing", r.Case.Name)
				}
				if r.Failure != "" {
					t.Errorf("%s: %s; %s", r.Case.Name, r.Failure, r.Decision.Explain())
				}
			}
			if allowed == 0 || denied == 0 {
				t.Errorf("%d cases that are allowed, %d that are denied", allowed, denied)
			}
		})
	}
}

func TestSchemaFileIsTheSchema(t *testing.T) {
	file, err := os.ReadFile(filepath.Join(examples, "xks-proxy.cedarschema"))
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != Schema {
		t.Error(
			"configs/policies/xks-proxy.cedarschema differs from pkg/authz/xks-proxy.cedarschema: copy it",
		)
	}
}

// The examples in docs/policies.md work, and it names everything that a policy can read.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	_, _, err = Parse("policies.md", []byte(block(t, page, "cedar")))
	if err != nil {
		t.Error(err)
	}
	p, _, err := Load(filepath.Join(examples, "backup-role.cedar"))
	if err != nil {
		t.Fatal(err)
	}
	results, err := RunCases(p, KeyStore{}, strings.NewReader(block(t, page, "json")))
	if err != nil || results.Failures() > 0 {
		t.Error(results, err)
	}
	names := append(entityTypes(), attributesOf("context")...)
	names = append(names, attributesOf("principal")...)
	names = append(names, attributesOf("resource")...)
	for _, name := range names {
		if !strings.Contains(page, "`"+name) && !strings.Contains(page, name+"::") {
			t.Errorf("%s is not mentioned", name)
		}
	}
}

func block(t *testing.T, page, language string) string {
	t.Helper()
	_, rest, begun := strings.Cut(page, "```"+language+"\n")
	inside, _, ended := strings.Cut(rest, "```")
	if !begun || !ended {
		t.Fatalf("no %s in the page", language)
	}
	return inside
}
