package xks

// Secondary authorization (requirements Z1 to Z3, A8, H3): what policies are told, what their
// answer does to the reply, and what the log says.

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/group"
)

const (
	mallory     = "arn:aws:iam::123456789012:user/Mallory"
	notMallory  = `@id("all") permit (principal, action, resource); @id("not-mallory") forbid (principal == User::"` + mallory + `", action, resource);`
	onlyAccount = `@id("account") permit (principal in Account::"123456789012", action, resource);`
)

func parsePolicies(t testing.TB, text string) *authz.Policies {
	t.Helper()
	policies, _, err := authz.Parse("test.cedar", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return policies
}

func withPolicies(t testing.TB, text string, mode authz.Mode) change {
	policies := parsePolicies(t, text)
	return func(c *Config, _ *group.Config) {
		store := &c.KeyStores[0]
		store.Policies, store.PolicyMode, store.Owner = policies, mode, "agency-payroll"
	}
}

// lastLevel is how loud the last line is.
func (r *rig) lastLevel() zapcore.Level {
	lines := r.logs.FilterMessage("request").All()
	return lines[len(lines)-1].Level
}

// three are the operations that policies decide on, by one caller.
func (r *rig) three(principal string, sealed fields) map[string]reply {
	as := func(f fields) fields { return f.withMetadata("awsPrincipalArn", principal) }
	return map[string]reply{
		"Encrypt":        r.encrypt(goodKey, as(encryptFields([]byte("x")))),
		"Decrypt":        r.decrypt(goodKey, as(sealed)),
		"GetKeyMetadata": r.send(keyURI(goodKey, "metadata"), as(metadataOnly("CreateKey"))),
	}
}

func TestPolicyDenies(t *testing.T) {
	r := newRig(t, withPolicies(t, notMallory, authz.ModeEnforce))
	sealed := encryptGood(r).decryptFields()
	line := r.lastLine()
	if ids, _ := line["policy_ids"].([]any); !slices.Equal(ids, []any{"all"}) ||
		line["policy_places"] != nil ||
		r.lastLevel() != zapcore.InfoLevel {
		t.Errorf("of an allowed request: %v", line)
	}
	for operation, p := range r.three("arn:aws:iam::123456789012:user/Alice", sealed) {
		if p.status != http.StatusOK {
			t.Errorf("%s for Alice: %s", operation, p.body)
		}
	}
	for operation, p := range r.three(mallory, sealed) {
		if p.errorName(t) != accessDenied || strings.Contains(string(p.body), "allory") {
			t.Errorf("%s for Mallory: %s", operation, p.body)
		}
	}
	line = r.lastLine()
	if r.lastLevel() != zapcore.WarnLevel || line["error_name"] != "AccessDeniedException" ||
		line["key_label"] != goodKey ||
		line["owner"] != "agency-payroll" ||
		!strings.Contains(line["reason"].(string), "forbidden by not-mallory") ||
		fmt.Sprint(line["policy_ids"], line["policy_places"]) != "[not-mallory] [test.cedar:1]" {
		t.Errorf("%v: %v", r.lastLevel(), line)
	}
}

// A denial in shadow mode is in the log only.
func TestPolicyShadow(t *testing.T) {
	r := newRig(t, withPolicies(t, notMallory, authz.ModeShadow))
	sealed := encryptGood(r).decryptFields()
	if line := r.lastLine(); line["policy_shadow_denied"] != nil {
		t.Errorf("of what is permitted: %v", line)
	}
	for operation, p := range r.three(mallory, sealed) {
		line := r.lastLine()
		if p.status != http.StatusOK || line["policy_shadow_denied"] != true ||
			line["outcome"] != "ok" ||
			r.lastLevel() != zapcore.WarnLevel ||
			!strings.Contains(line["policy_reason"].(string), "forbidden by not-mallory") {
			t.Errorf("%s: %s, %v", operation, p.body, line)
		}
	}
}

// H3.
func TestPolicyHealth(t *testing.T) {
	r := newRig(
		t,
		withPolicies(
			t, `permit (principal in Account::"999999999999", action, resource);`,
			authz.ModeEnforce,
		),
	)
	r.health().wantOK(t)
	encryptGood(r).want(t, accessDenied)
}

// Z1: everything that a policy can ask for comes from this request and this key.
func TestPolicyIsTold(t *testing.T) {
	request := encryptFields([]byte("x")).withMetadata("awsSourceVpc", "vpc-1").
		withMetadata("awsSourceVpce", "vpce-2").
		withMetadata("kmsKeyArn", "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab").
		withMetadata("kmsViaService", "rds.eu-west-1.amazonaws.com").
		withMetadata("kmsOperation", "GenerateDataKey")
	for _, condition := range []string{
		`principal == User::"arn:aws:iam::123456789012:user/Alice"`, `resource == Key::"store-one/1"`, `resource.keyStore == "store-one"`, `resource.id == "1"`,
		`resource has label && resource.label == "key-1"`, `resource has owner && resource.owner == "agency-payroll"`,
		`context.operation == "GenerateDataKey"`, `context.region == "us-east-1"`, `context.accessKeyId == "` + testCredential.AccessKeyID + `"`,
		`context has vpc && context.vpc == "vpc-1"`, `context has vpce && context.vpce == "vpce-2"`,
		`context has viaService && context.viaService == "rds.eu-west-1.amazonaws.com"`, `context has viaServiceName && context.viaServiceName == "rds"`,
		`context has kmsKeyArn && context.kmsKeyArn == "arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"`,
		`context has kmsKeyAccount && context.kmsKeyAccount == "123456789012"`, `context has kmsKeyRegion && context.kmsKeyRegion == "us-east-2"`,
		`context.time > datetime("2026-01-01") && context.time < datetime("2126-01-01")`,
	} {
		when := newRig(
			t,
			withPolicies(
				t,
				`permit (principal, action == Action::"Encrypt", resource) when { `+condition+` };`,
				"",
			),
			func(c *Config, _ *group.Config) { c.KeyStores[0].Label = "key-{key_id}" },
		)
		if p := when.encrypt("1", request); p.status != http.StatusOK {
			t.Errorf("%s: %s %v", condition, p.body, when.lastLine()["reason"])
		}
		unless := newRig(
			t,
			withPolicies(
				t,
				`permit (principal, action == Action::"Encrypt", resource) unless { `+condition+` };`,
				"",
			),
			func(c *Config, _ *group.Config) { c.KeyStores[0].Label = "key-{key_id}" },
		)
		if p := unless.encrypt("1", request); p.errorName(t) != accessDenied {
			t.Errorf("not %s: %s", condition, p.body)
		}
	}
}

// Z3: optional fields that are absent, and principals that are odd, neither crash nor widen.
func TestPolicyOddRequests(t *testing.T) {
	const closed = onlyAccount + `@id("vpce") forbid (principal, action, resource) unless { context has vpce && context.vpce == "vpce-1" };`
	r := newRig(t, withPolicies(t, closed, authz.ModeEnforce))
	good := encryptFields(nil).withMetadata("awsSourceVpce", "vpce-1")
	r.encrypt(goodKey, good).wantOK(t)
	r.encrypt(goodKey, encryptFields(nil)).want(t, accessDenied)
	r.encrypt(goodKey, good.withMetadata("awsSourceVpce", nil)).want(t, accessDenied)
	r.encrypt(goodKey, good.withMetadata("awsSourceVpce", "")).want(t, accessDenied)
	r.encrypt(goodKey, good.withMetadata("awsSourceVpce", strings.Repeat("v", 3000))).
		want(t, accessDenied)
	for _, principal := range []string{
		"", " ", "*", "AWS Internal", "ec2.amazonaws.com", "arn:aws:iam::123456789012", "arn:aws:iam::123456789012:", "arn:aws:iam:::user/x", "123456789012",
		"arn:aws:iam::1234567890123:user/x", "arn:aws:iam::123456789012:user/", "arn:aws:iam::123456789012:user/\u0000", "ARN:AWS:IAM::123456789012:user/x",
		"arn:aws:iam::123456789012:user/x\n", "\U0010ffff", strings.Repeat("arn:", 10000), "arn:aws:sts::123456789012:assumed-role/only", `Account::"123456789012"`,
	} {
		if p := r.encrypt(goodKey, good.withMetadata("awsPrincipalArn", principal)); p.errorName(
			t,
		) != accessDenied &&
			p.errorName(t) != validation {
			t.Errorf("%.60q: %d %s", principal, p.status, p.body)
		}
	}
}

// However many policies decide, the log line stays short.
func TestPolicyLogIsBounded(t *testing.T) {
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "@id(\"%0100d\") forbid (principal is User, action, resource);\n", i)
	}
	r := newRig(t, withPolicies(t, onlyAccount+many.String(), authz.ModeEnforce))
	encryptGood(r).want(t, accessDenied)
	line := r.lastLine()
	ids, places := line["policy_ids"].([]any), line["policy_places"].([]any)
	if len(ids) != 17 || ids[16] != "and 484 more" || len(places) != 17 ||
		len(r.logText()) > 12_000 {
		t.Errorf(
			"%d ids, %d places, %d bytes, the last %v", len(ids), len(places), len(r.logText()),
			ids[len(ids)-1],
		)
	}
}

func TestPolicyMode(t *testing.T) {
	r := newRig(t)
	r.config.KeyStores[0].PolicyMode = "observe"
	if err := r.config.Validate(); err == nil ||
		!strings.Contains(err.Error(), `policy mode "observe": use enforce or shadow`) {
		t.Error(err)
	}
}
