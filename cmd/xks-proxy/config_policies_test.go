package main

// Policies as part of the configuration: what is wrong with their files is said like anything else that is wrong.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"xks-proxy/internal/testkit"
)

const goodPolicy = "@id(\"all\") permit (principal, action, resource);\n"

// policyConfiguration is valid.yaml with a policy.
func policyConfiguration(t *testing.T, policy string) string {
	t.Helper()
	return testkit.ValidConfig(t, "hsm_group: main\n    credentials", "hsm_group: main\n    owner: agency-payroll\n    policy: "+policy+"\n    credentials")
}

func policyDir(t *testing.T) string {
	t.Helper()
	dir := testkit.ConfigDir(t)
	err := os.Mkdir("policies", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, "policies/a.cedar", goodPolicy, 0o644)
	return dir
}

func TestPoliciesAreLoaded(t *testing.T) {
	policyDir(t)
	testkit.WriteFile(t, "b.cedar", "@id(\"never\") forbid (principal, action, resource) when { context.hour > 3 };\n", 0o600)
	c, warnings := mustLoad(t, policyConfiguration(t, "{files: [policies, b.cedar], mode: shadow}"))
	if got := fmt.Sprint(c.policies["demo"].IDs()); got != "[never all]" || len(warnings) > 0 {
		t.Errorf("policies %s, warnings %v", got, warnings)
	}
	if k := c.KeyStores[0]; k.Owner != "agency-payroll" || k.Policy.Mode != "shadow" {
		t.Errorf("%+v", k)
	}
	stdout, stderr, code := execute(t, "config", "check", "test.yaml")
	if code != 0 || stderr != "" || !strings.Contains(stdout, "2, shadow") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	c, _ = mustLoad(t, testkit.ValidConfig(t))
	if c.policies["demo"] != nil || c.KeyStores[0].Policy.Mode != "enforce" {
		t.Errorf("a key store without policy has %v", c.policies["demo"])
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
		{"writable by the group", goodPolicy, 0o664, "test.yaml:13:22: key_stores[0].policy.files[0]: DIR/policies/a.cedar can be changed by others (mode 0664); run: chmod go-w DIR/policies/a.cedar"},
		{"writable by all", goodPolicy, 0o602, "can be changed by others (mode 0602)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := policyDir(t)
			testkit.WriteFile(t, "policies/a.cedar", test.content, test.mode)
			testkit.WriteFile(t, "test.yaml", policyConfiguration(t, "{files: [policies]}"), 0o644)
			_, stderr, code := execute(t, "config", "check", "test.yaml")
			got := strings.ReplaceAll(stderr, dir, "DIR")
			if code != 1 || !strings.HasPrefix(got, "xks-proxy: ") || !strings.Contains(got, test.want) || len(got) < len(test.want)+10 {
				t.Errorf("exit code %d\n%s\nwant %s", code, got, test.want)
			}
		})
	}
	t.Run("an empty directory", func(t *testing.T) {
		dir := policyDir(t)
		err := os.Remove("policies/a.cedar")
		if err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, "test.yaml", policyConfiguration(t, "{files: [policies]}"), 0o644)
		_, stderr, code := execute(t, "config", "check", "test.yaml")
		if code != 1 || !strings.Contains(stderr, filepath.Join(dir, "policies")+": no *.cedar file in this directory") {
			t.Errorf("exit code %d: %s", code, stderr)
		}
	})
	t.Run("two files and the configuration", func(t *testing.T) {
		policyDir(t)
		testkit.WriteFile(t, "policies/a.cedar", "permit everything;", 0o644)
		testkit.WriteFile(t, "policies/b.cedar", "\npermit nothing;", 0o644)
		text := strings.Replace(policyConfiguration(t, "{files: [policies]}"), "certificate: server.crt", "certificate: none.crt", 1)
		testkit.WriteFile(t, "test.yaml", text, 0o644)
		_, _, err := loadConfig("test.yaml")
		lines := strings.Split(fmt.Sprint(err), "\n")
		if len(lines) != 4 || lines[0] != "test.yaml has 3 errors:" || !strings.Contains(lines[1], "test.yaml:1:") || !strings.Contains(lines[2], "a.cedar:1:") || !strings.Contains(lines[3], "b.cedar:2:") {
			t.Errorf("%v", err)
		}
	})
}

// Z4, and what else works and is probably not meant.
func TestPolicyWarnings(t *testing.T) {
	dir := policyDir(t)
	testkit.WriteFile(t, "policies/a.cedar", "permit (principal, action, resource)\nwhen { context has kmsKeyArn && context.kmsKeyArn == \"arn:aws:kms:eu-west-1:111122223333:key/1\" };\n", 0o644)
	err := os.Chmod("policies", 0o777) // this is the fault
	if err != nil {
		t.Fatal(err)
	}
	_, warnings := mustLoad(t, policyConfiguration(t, "{files: [policies]}"))
	got := strings.ReplaceAll(fmt.Sprint(warnings), dir, "DIR")
	for _, want := range []string{"DIR/policies can be changed by others (mode 0777), who could add a policy", "DIR/policies/a.cedar:", "GetKeyMetadata"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

// Key stores with the same files have one set, and what is wrong with it is said once.
func TestPoliciesAreShared(t *testing.T) {
	policyDir(t)
	second := "  - {name: second, owner: agency-payroll, path_prefix: /second, hsm_group: main, policy: {files: [policies]}, credentials: [{access_key_id: XKSTESTACCESSKEYID222222, secret_access_key: {file: demo.key}}]}\n"
	text := policyConfiguration(t, "{files: [policies]}") + second
	c, _ := mustLoad(t, text)
	if c.policies["demo"] == nil || c.policies["demo"] != c.policies["second"] {
		t.Error("two sets for the same files")
	}
	testkit.WriteFile(t, "policies/a.cedar", "permit everything;", 0o644)
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	_, _, err := loadConfig("test.yaml")
	if err == nil || strings.Count(err.Error(), "a.cedar") != 1 {
		t.Errorf("%v", err)
	}
}
