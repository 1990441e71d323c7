package cli

// The policy command: tables, log lines, exit codes.

import (
	"strings"
	"testing"

	"xks-proxy/internal/testkit"
)

const payrollPolicy = `@id("payroll") permit (principal in Account::"111122223333", action, resource in KeyStore::"demo")
when { resource has owner && resource.owner == "agency-payroll" && resource has label && resource.label == "key-1" };
`

const payrollCases = `{"name": "payroll", "expect": "allow", "policies": ["payroll"], "operation": "GetKeyMetadata", "key": "key-1", "aws_principal_arn": "arn:aws:iam::111122223333:role/a", "kms_operation": "CreateKey"}
{"name": "strangers", "expect": "deny", "operation": "GetKeyMetadata", "key": "key-1", "aws_principal_arn": "arn:aws:iam::999999999999:role/a", "kms_operation": "CreateKey"}
{"level": "info", "msg": "request", "operation": "GetKeyMetadata", "key_store": "demo", "key": "key-1", "aws_principal_arn": "arn:aws:iam::111122223333:role/b", "kms_operation": "CreateKey", "kms_request_id": "of-the-log", "policy_ids": ["old"], "policy_places": ["old.cedar:1"], "key_label": "key-1", "owner": "agency-payroll"}
{"level": "info", "msg": "request", "operation": "GetKeyMetadata", "key_store": "other", "key": "key-1"}
{"level": "info", "msg": "serving"}
`

func TestPolicyTest(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "payroll.cedar", payrollPolicy, 0o644)
	testkit.WriteFile(t, "cases.jsonl", payrollCases, 0o644)
	testkit.WriteFile(
		t,
		"wrong.jsonl",
		strings.Replace(payrollCases, `"expect": "deny"`, `"expect": "allow"`, 1),
		0o644,
	)
	testkit.WriteFile(
		t,
		"stray.jsonl",
		`{"expect": "deny", "operation": "Encrypt", "key_store": "dmeo", "key": "k"}`,
		0o644,
	)
	testkit.WriteFile(t, "without.yaml", testkit.ValidConfig(t), 0o644)
	// No certificate and no secret is needed to try a policy.
	text := strings.NewReplacer("server.crt", "elsewhere.crt", "demo.key", "elsewhere.key").
		Replace(testkit.PolicyConfiguration(t, "{files: [payroll.cedar], mode: shadow}"))
	testkit.WriteFile(t, "with.yaml", text, 0o644)
	for _, test := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"cases.jsonl --config with.yaml --key-store demo", 0, `  RESULT  CASE        DECISION  WHY
  ok      payroll     allow     permitted by payroll
  ok      strangers   deny      no policy permits it
  -       of-the-log  allow     permitted by payroll

3 cases, 0 failed; 2 other entries skipped
`, ""},
		{"wrong.jsonl --config with.yaml", 1, `  RESULT  CASE        DECISION  WHY
  ok      payroll     allow     permitted by payroll
  FAIL    strangers   deny      no policy permits it; expected allow
  -       of-the-log  allow     permitted by payroll

3 cases, 1 failed; 2 other entries skipped
`, ""},
		{"stray.jsonl --config with.yaml", 1, "", `xks-proxy: stray.jsonl: policy cases: entry 1: key_store "dmeo": the policies are those of "demo"` + "\n"},
		{"cases.jsonl --config without.yaml", 1, "", "xks-proxy: key store demo has no policy: every request that AWS KMS signs is served\n"},
		{"cases.jsonl --config with.yaml --key-store dmeo", 1, "", "xks-proxy: there is no key store named \"dmeo\"; there are demo\n"},
		{"none.jsonl --config with.yaml", 1, "", "xks-proxy: policy cases: open none.jsonl: no such file or directory\n"},
		{"cases.jsonl --config with.yaml --policies payroll.cedar", 2, "", "xks-proxy: --policies names the policies; leave --config and --key-store out\nTry: xks-proxy policy test --help\n"},
		{"cases.jsonl --policies none.cedar", 1, "", "xks-proxy: none.cedar does not exist\n"},
	} {
		t.Run(test.args, func(t *testing.T) {
			stdout, stderr, code := execute(
				t,
				append([]string{"policy", "test"}, strings.Fields(test.args)...)...)
			if code != test.code || stdout != test.stdout || stderr != test.stderr {
				t.Errorf("exit code %d, want %d\n%s\n%s", code, test.code, stdout, stderr)
			}
		})
	}
}

func TestPolicyCheck(t *testing.T) {
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "payroll.cedar", payrollPolicy, 0o664) // a draft may be anybody's
	testkit.WriteFile(
		t,
		"bad.cedar",
		"permit (principal in Account::\"1\", action, resource);\npermit (principal, action, "+
			"resource) when { context.vpce == \"x\" };\n",
		0o644,
	)
	stdout, stderr, code := execute(t, "policy", "check", "payroll.cedar")
	if code != 0 || stdout != "ok: 1 in the set\n" || stderr != "" {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = execute(t, "policy", "check", "payroll.cedar", "bad.cedar")
	if code != 1 || stdout != "" ||
		!strings.HasPrefix(stderr, "xks-proxy: the policies are not valid:\n  bad.cedar:1:") ||
		!strings.Contains(stderr, "\n  bad.cedar:2:") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	_, stderr, code = execute(t, "policy", "check")
	if code != 2 || !strings.Contains(stderr, "which policies?") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
