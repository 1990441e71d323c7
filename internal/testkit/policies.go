package testkit

import (
	"os"
	"testing"
)

// Configurations with policies.

// GoodPolicy permits everything.
const GoodPolicy = "@id(\"all\") permit (principal, action, resource);\n"

// PolicyConfiguration is valid.yaml with a policy.
func PolicyConfiguration(t *testing.T, policy string) string {
	t.Helper()
	return ValidConfig(t, "hsm_group: main\n    credentials", "hsm_group: main\n    owner: "+
		"agency-payroll\n    policy: "+policy+"\n    credentials")
}

// PolicyDir makes a directory like ConfigDir, with GoodPolicy in policies/a.cedar.
func PolicyDir(t *testing.T) string {
	t.Helper()
	dir := ConfigDir(t)
	err := os.Mkdir("policies", 0o755)
	if err != nil {
		t.Fatal(err)
	}
	WriteFile(t, "policies/a.cedar", GoodPolicy, 0o644)
	return dir
}

// NamesConfiguration is valid.yaml with the policies of the directory and a pattern on labels.
func NamesConfiguration(t *testing.T) string {
	t.Helper()
	return PolicyConfiguration(t, "{files: [policies]}\n    keys: {labels: [payroll-*], label: "+
		"\"payroll-{key_id}\"}")
}
