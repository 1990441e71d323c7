package main

// Names in policies that the configuration does not have.

import (
	"strings"
	"testing"
	"xks-proxy/internal/testkit"
)

// namesConfiguration is valid.yaml with the policies of the directory and a pattern on labels.
func namesConfiguration(t *testing.T) string {
	t.Helper()
	return policyConfiguration(t, "{files: [policies]}\n    keys: {labels: [payroll-*], label: \"payroll-{key_id}\"}")
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
		policyDir(t)
		testkit.WriteFile(t, "policies/a.cedar", test.policy, 0o644)
		file := "test.yaml"
		testkit.WriteFile(t, file, namesConfiguration(t), 0o600)
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

func TestWhyNoKey(t *testing.T) {
	c := &config{
		HSMGroups: []hsmGroupConfig{{Name: "main", TestKey: testKeyConfig{Label: "payroll-test"}}},
		KeyStores: []keyStoreConfig{
			{Name: "patterns", HSMGroup: "main", Keys: keysConfig{Labels: []string{"payroll-*"}, Label: "{key_id}"}},
			{Name: "list", HSMGroup: "main", Keys: keysConfig{Labels: []string{"hr-wages", "hr-pensions"}, Label: "hr-{key_id}"}},
		},
	}
	for name, want := range map[string]string{
		"patterns/payroll-1":    "",
		"patterns/wages":        `its label "wages" matches none of keys.labels, which are payroll-*`,
		"patterns/payroll-test": `"payroll-test" is the proxy's own test key (test_key of the HSM group main)`,
		"list/wages":            "",
		"list/wage":             `its label "hr-wage" is not in keys.labels; did you mean "hr-wages"?`,
		"none/x":                "",
	} {
		keyStore, id, _ := strings.Cut(name, "/")
		if got := c.whyNoKey(keyStore, id); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := shortList([]string{"a", "b", "c", "d", "e", "f"}); got != "a, b, c, d, e and 1 more" {
		t.Errorf("%q", got)
	}
}
