package config

// Policies as part of the configuration: what is wrong with their files is said like anything else
// that is wrong.

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

// Z4, and what else works and is probably not meant.
func TestPolicyWarnings(t *testing.T) {
	dir := testkit.PolicyDir(t)
	testkit.WriteFile(t, "policies/a.cedar", "permit (principal, action, resource)\nwhen { "+
		"context has kmsKeyArn && context.kmsKeyArn == "+
		"\"arn:aws:kms:eu-west-1:111122223333:key/1\" };\n", 0o644)
	err := os.Chmod("policies", 0o777) // this is the fault
	if err != nil {
		t.Fatal(err)
	}
	_, warnings := mustLoad(t, testkit.PolicyConfiguration(t, "{files: [policies]}"))
	got := strings.ReplaceAll(fmt.Sprint(warnings), dir, "DIR")
	for _, want := range []string{"DIR/policies can be changed by others (mode 0777), who could " +
		"add a policy", "DIR/policies/a.cedar:", "GetKeyMetadata"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in %s", want, got)
		}
	}
}

// Key stores with the same files have one set, and what is wrong with it is said once.
func TestPoliciesAreShared(t *testing.T) {
	testkit.PolicyDir(t)
	second := "  - {name: second, owner: agency-payroll, path_prefix: /second, hsm_group: main, " +
		"policy: {files: [policies]}, credentials: [{access_key_id: XKSTESTACCESSKEYID222222, " +
		"secret_access_key: {file: demo.key}}]}\n"
	text := testkit.PolicyConfiguration(t, "{files: [policies]}") + second
	c, _ := mustLoad(t, text)
	if c.Policies["demo"] == nil || c.Policies["demo"] != c.Policies["second"] {
		t.Error("two sets for the same files")
	}
	testkit.WriteFile(t, "policies/a.cedar", "permit everything;", 0o644)
	testkit.WriteFile(t, "test.yaml", text, 0o644)
	_, _, err := Load("test.yaml")
	if err == nil || strings.Count(err.Error(), "a.cedar") != 1 {
		t.Errorf("%v", err)
	}
}
