package cli

// `config check` and policies.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func TestPoliciesAreLoaded(t *testing.T) {
	testkit.PolicyDir(t)
	testkit.WriteFile(t, "b.cedar", "@id(\"never\") forbid (principal, action, resource) when { context.hour > 3 };\n", 0o600)
	c, warnings := loadGood(t, testkit.PolicyConfiguration(t, "{files: [policies, b.cedar], mode: shadow}"))
	if got := fmt.Sprint(c.Policies["demo"].IDs()); got != "[never all]" || len(warnings) > 0 {
		t.Errorf("policies %s, warnings %v", got, warnings)
	}
	if k := c.KeyStores[0]; k.Owner != "agency-payroll" || k.Policy.Mode != "shadow" {
		t.Errorf("%+v", k)
	}
	stdout, stderr, code := execute(t, "config", "check", "test.yaml")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "2, shadow") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	c, _ = loadGood(t, testkit.ValidConfig(t))
	if c.Policies["demo"] != nil || c.KeyStores[0].Policy.Mode != "enforce" {
		t.Errorf("a key store without policy has %v", c.Policies["demo"])
	}
}

// Every fault in a policy file comes with its place there; those of the configuration come first.
func TestPolicyProblems(t *testing.T) {
	for _, test := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"unknown attribute", "permit (principal, action, resource)\nwhen { context.vcpe == \"x\" };\n", 0o644, "DIR/policies/a.cedar:2:16: policy \"a.cedar:1\": "},
		{"no Cedar", "permit everything;", 0o644, "DIR/policies/a.cedar:1:"},
		{"nothing in it", "// nothing yet\n", 0o644, "test.yaml:13:21: key_stores[0].policy.files: policies: none in these files; every request would be denied"},
		{"writable by the group", testkit.GoodPolicy, 0o664, "test.yaml:13:22: key_stores[0].policy.files[0]: DIR/policies/a.cedar can be changed by others (mode 0664); run: chmod go-w DIR/policies/a.cedar"},
		{"writable by all", testkit.GoodPolicy, 0o602, "can be changed by others (mode 0602)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := testkit.PolicyDir(t)
			testkit.WriteFile(t, "policies/a.cedar", test.content, test.mode)
			testkit.WriteFile(t, "test.yaml", testkit.PolicyConfiguration(t, "{files: [policies]}"), 0o644)
			_, stderr, code := execute(t, "config", "check", "test.yaml")
			got := strings.ReplaceAll(stderr, dir, "DIR")
			if code != 1 || !strings.HasPrefix(got, "xks-proxy: ") || !strings.Contains(got, test.want) || len(got) < len(test.want)+10 {
				t.Errorf("exit code %d\n%s\nwant %s", code, got, test.want)
			}
		})
	}
	t.Run("an empty directory", func(t *testing.T) {
		dir := testkit.PolicyDir(t)
		err := os.Remove("policies/a.cedar")
		if err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, "test.yaml", testkit.PolicyConfiguration(t, "{files: [policies]}"), 0o644)
		_, stderr, code := execute(t, "config", "check", "test.yaml")
		if code != 1 || !strings.Contains(stderr, filepath.Join(dir, "policies")+": no *.cedar file in this directory") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	t.Run("two files and the configuration", func(t *testing.T) {
		testkit.PolicyDir(t)
		testkit.WriteFile(t, "policies/a.cedar", "permit everything;", 0o644)
		testkit.WriteFile(t, "policies/b.cedar", "\npermit nothing;", 0o644)
		text := strings.Replace(testkit.PolicyConfiguration(t, "{files: [policies]}"), "certificate: server.crt", "certificate: none.crt", 1)
		testkit.WriteFile(t, "test.yaml", text, 0o644)
		_, _, err := config.Load("test.yaml")
		lines := strings.Split(fmt.Sprint(err), "\n")
		if len(lines) != 4 || lines[0] != "test.yaml has 3 errors:" || !strings.Contains(lines[1], "test.yaml:1:") || !strings.Contains(lines[2], "a.cedar:1:") || !strings.Contains(lines[3], "b.cedar:2:") {
			t.Errorf("%v", err)
		}
	})
}

func TestPolicyNames(t *testing.T) {
	for _, test := range []struct {
		name, policy string
		want         []string // in the errors; none: it is good
	}{
		{"a key store", `permit (principal, action, resource in KeyStore::"demmo");`,
			[]string{`policies/a.cedar:1:50: policy "a.cedar:1": there is no key store "demmo" in the configuration (did you mean demo?)`}},
		{"two key stores", `permit (principal, action, resource in KeyStore::"demmo");` + "\n" + `permit (principal, action, resource in KeyStore::"domo");`,
			[]string{`policies/a.cedar:1:50: `, `policies/a.cedar:2:50: `}},
		{"a key", `permit (principal, action, resource == Key::"demo/1");`, nil},
		{"a key of another key store", `permit (principal, action, resource == Key::"demmo/1");`, []string{`there is no key store "demmo"`}},
		{"no request", `permit (principal in Account::"111122223333", action, resource); @id("x") forbid (principal, action, resource in KeyStore::"demo");`,
			[]string{"key_stores[0].policy.files: in the key store demo nothing can be permitted", "blocked: true"}},
		{"an action", `permit (principal, action == Action::"Decript", resource);`, []string{"did you mean Decrypt?"}},
	} {
		testkit.PolicyDir(t)
		testkit.WriteFile(t, "policies/a.cedar", test.policy, 0o644)
		file := "test.yaml"
		testkit.WriteFile(t, file, testkit.NamesConfiguration(t), 0o600)
		stdout, stderr, code := execute(t, "config", "check", file)
		if (code == 0) != (test.want == nil) {
			t.Errorf("%s: exit code %d: %s%s", test.name, code, stdout, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(stderr+stdout, want) {
				t.Errorf("%s: says\n%s%s\nwant %s", test.name, stdout, stderr, want)
			}
		}
		if test.name == "no request" {
			continue
		}
		for _, command := range [][]string{
			{"policy", "check", "policies", "--config", file}, {"policy", "test", "cases.jsonl", "--config", file},
		} {
			testkit.WriteFile(t, "cases.jsonl", "", 0o600)
			stdout, stderr, _ := execute(t, command...)
			if command[1] == "check" && strings.Contains(stderr, file+" has ") {
				t.Errorf("%s: the configuration is blamed: %s", test.name, stderr)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%s: %v says\n%s%s\nwant %s", test.name, command, stdout, stderr, want)
				}
			}
		}
	}
}

// loadGood loads a configuration that has to be good.
func loadGood(t *testing.T, text string) (*config.Config, []schema.Warning) {
	t.Helper()
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	c, warnings, err := config.Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c, warnings
}
