package authz

// Decisions: what a condition reads, and that whatever fails or is missing never widens (Z1, Z3).

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func mustParse(t testing.TB, document string) *Policies {
	t.Helper()
	p, _, err := Parse("test.cedar", []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func testRequest() Request {
	return Request{
		Action: Encrypt, KeyStore: "agency", KeyID: "payroll-1", KeyLabel: "payroll-1", Owner: "agency of payrolls",
		PrincipalARN: "arn:aws:iam::111122223333:user/team/Alice", KMSOperation: "GenerateDataKey",
		KMSKeyARN: new(
			"arn:aws:kms:eu-west-1:444455556666:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		),
		SourceVPC: new(
			"vpc-1",
		), SourceVPCE: new("vpce-1"), KMSViaService: new("s3.eu-west-1.amazonaws.com"),
		AccessKeyID: "BETWEENTWENTYANDTHIRTY", Region: "eu-west-1", Time: time.Date(2026, 3, 8, 13, 14, 15, 0, time.UTC),
	}
}

// Everything the schema names can be read, and holds what the request says (Z1).
func TestConditionsReadTheRequest(t *testing.T) {
	const in = `permit(principal, action in [Action::"Encrypt", Action::"Decrypt"], resource) when { `
	for _, condition := range []string{
		`principal is User`, `principal in Account::"111122223333"`, `principal == User::"arn:aws:iam::111122223333:user/team/Alice"`,
		`principal has account && principal.account == "111122223333"`, `principal is User && principal.path == "/team/"`, `principal has name && principal.name == "Alice"`,
		`principal has partition && principal.partition == "aws"`, `principal.arn like "*:user/team/*"`, `!(principal in Account::"444455556666")`,
		`action in Action::"Use"`, `action == Action::"Encrypt"`, `resource in KeyStore::"agency"`, `resource == Key::"agency/payroll-1"`,
		`resource.id == "payroll-1"`, `resource.keyStore == "agency"`, `resource has label && resource.label like "payroll-*"`, `resource has owner && resource.owner == "agency of payrolls"`,
		`context.operation == "GenerateDataKey"`, `context.region == "eu-west-1"`, `context.accessKeyId == "BETWEENTWENTYANDTHIRTY"`,
		`context has vpc && context.vpc == "vpc-1"`, `context has vpce && context.vpce == "vpce-1"`, `context.hour == 13`, `context.weekday == 7`,
		`context.time == datetime("2026-03-08T13:14:15Z")`, `context.time.toTime() < duration("13h15m")`,
		`context.kmsKeyArn like "arn:aws:kms:*"`, `context.kmsKeyAccount == "444455556666"`, `context.kmsKeyRegion == context.region`,
		`context has viaService && context.viaService == "s3.eu-west-1.amazonaws.com"`, `context has viaServiceName && context.viaServiceName == "s3"`,
		`!(principal has sessionName) && !(principal has service)`,
	} {
		d := mustParse(t, in+condition+" };").Decide(ModeEnforce, testRequest())
		if !d.Allowed || len(d.Errors) > 0 {
			t.Errorf("%s: %s", condition, d.Explain())
		}
	}
}

// Z3: what fails or is missing never turns a deny into an allow.
func TestFailsClosed(t *testing.T) {
	const permitAll = `@id("all") permit(principal, action, resource);`
	const crypto = `action in [Action::"Encrypt", Action::"Decrypt"]`
	const overflow = `context.hour + 9223372036854775807 > 0`
	bad := "arn:aws:iam::111122223333:user/Alice\x00"
	long := strings.Repeat("v", maxText+1)
	for _, test := range []struct {
		name     string
		document string
		change   func(*Request)
		allowed  bool
		policies []string
		errors   int
	}{
		{"only a forbid applies", `permit(principal in Account::"444455556666", action, resource); @id("no") forbid(principal, action, resource) when { context.hour >= 0 };`, nil, false, []string{"no"}, 0},
		{"no permit matches", `permit(principal in Account::"444455556666", action, resource);`, nil, false, nil, 0},
		{"a forbid beats permits", permitAll + `@id("no") forbid(principal is User, action, resource);`, nil, false, []string{"no"}, 0},
		{"all permits that match are named", permitAll + `@id("also") permit(principal is User, action, resource);`, nil, true, []string{"all", "also"}, 0},

		{"a forbid that fails applies", permitAll + `@id("no") forbid(principal, action, resource) when { ` + overflow + ` };`, nil, false, []string{"no"}, 1},
		{"a forbid-unless that fails applies", permitAll + `@id("no") forbid(principal, action, resource) unless { ` + overflow + ` };`, nil, false, []string{"no"}, 1},
		{"a permit that fails does not match", `@id("yes") permit(principal, action, resource) when { ` + overflow + ` };`, nil, false, nil, 1},
		{"a permit that fails does not harm another", permitAll + `permit(principal, action, resource) when { ` + overflow + ` };`, nil, true, []string{"all"}, 1},
		{"a forbid for others that would fail", permitAll + `forbid(principal is Role, action, resource) when { ` + overflow + ` };`, nil, true, []string{"all"}, 0},

		{"absent optional field, permit", `permit(principal, action, resource) when { context has vpce && context.vpce == "vpce-1" };`,
			func(r *Request) { r.SourceVPCE = nil }, false, nil, 0},
		{"absent optional field, forbid", permitAll + `forbid(principal, action, resource) when { context has vpce && context.vpce == "vpce-1" };`,
			func(r *Request) { r.SourceVPCE = nil }, true, []string{"all"}, 0},
		{"absent optional field, forbid unless", permitAll + `@id("no") forbid(principal, action, resource) unless { context has vpce && context.vpce == "vpce-1" };`,
			func(r *Request) { r.SourceVPCE = nil }, false, []string{"no"}, 0},
		{"present and empty", permitAll + `@id("no") forbid(principal, action, resource) when { context has vpce && context.vpce == "vpce-2" };`,
			func(r *Request) { r.SourceVPCE = new("") }, false, []string{"no"}, 1},
		{"too long", permitAll + `@id("no") forbid(principal, ` + crypto + `, resource) when { context has viaService && context.viaService == "x" };`,
			func(r *Request) { r.KMSViaService = &long }, false, []string{"no"}, 1},
		{"odd, permit", `permit(principal, action, resource) when { if context has vpce then context.vpce != "vpce-2" else true };`,
			func(r *Request) { r.SourceVPCE = new("vpce-2\x00") }, false, nil, 1},

		{"malformed kmsKeyArn, forbid", permitAll + `@id("no") forbid(principal, ` + crypto + `, resource) when { context.kmsKeyAccount == "999988887777" };`,
			func(r *Request) { r.KMSKeyARN = new("arn:aws:kms:us-east-2:123456789012:/key/1") }, false, []string{"no"}, 1},
		{"malformed kmsKeyArn, permit", `permit(principal, ` + crypto + `, resource) when { context.kmsKeyAccount != "999988887777" };`,
			func(r *Request) { r.KMSKeyARN = new("x") }, false, nil, 1},
		{"malformed kmsKeyArn is still a text", `@id("text") permit(principal, ` + crypto + `, resource) when { context.kmsKeyArn == "x" };`,
			func(r *Request) { r.KMSKeyARN = new("x") }, true, []string{"text"}, 0},
		{"kmsKeyArn absent where it is required", permitAll + `@id("no") forbid(principal, ` + crypto + `, resource) when { context.kmsKeyRegion == "x" };`,
			func(r *Request) { r.KMSKeyARN = nil }, false, []string{"no"}, 1},
		{"kmsKeyArn absent where it is required, behind has", permitAll + `@id("no") forbid(principal, ` + crypto + `, resource) when { context has kmsKeyRegion && context.kmsKeyRegion == "x" };`,
			func(r *Request) { r.KMSKeyARN = nil }, false, []string{"no"}, 1},
		{"kmsKeyArn absent from GetKeyMetadata", permitAll + `forbid(principal, action, resource) when { context has kmsKeyRegion && context.kmsKeyRegion == "x" };`,
			func(r *Request) { r.KMSKeyARN, r.Action = nil, GetKeyMetadata }, true, []string{"all"}, 0},
		{"the context as a whole", permitAll + `@id("no") forbid(principal, action, resource) when { context != context };`,
			func(r *Request) { r.SourceVPC = new("\x00") }, false, []string{"no"}, 1},
		{"no time", permitAll + `@id("no") forbid(principal, action, resource) when { context.hour == 99 };`, func(r *Request) { r.Time = time.Time{} }, false, []string{"no"}, 1},
		{"no region", `permit(principal, action, resource) when { context.region != "x" };`, func(r *Request) { r.Region = "" }, false, nil, 1},

		{"unknown principal and a permit for everybody", permitAll, func(r *Request) { r.PrincipalARN = bad }, true, []string{"all"}, 0},
		{"unknown principal and a permit for an account", `permit(principal in Account::"111122223333", action, resource);`, func(r *Request) { r.PrincipalARN = bad }, false, nil, 1},
		{"unknown principal and a permit for all but an account", `permit(principal, action, resource) unless { principal in Account::"999988887777" };`,
			func(r *Request) { r.PrincipalARN = bad }, false, nil, 1},
		{"unknown principal and a permit by its text", `permit(principal, action, resource) when { principal.arn like "arn:aws:iam::111122223333:*" };`,
			func(r *Request) { r.PrincipalARN = bad }, false, nil, 1},
		{"unknown principal gets around no forbid", permitAll + `@id("no") forbid(principal in Account::"111122223333", action, resource);`,
			func(r *Request) { r.PrincipalARN = bad }, false, []string{"no"}, 1},
		{"unknown principal and a forbid for other keys", permitAll + `forbid(principal in Account::"111122223333", action, resource in KeyStore::"other");`,
			func(r *Request) { r.PrincipalARN = bad }, true, []string{"all"}, 0},
		{"unknown principal and a forbid for other actions", permitAll + `forbid(principal in Account::"111122223333", action == Action::"Decrypt", resource);`,
			func(r *Request) { r.PrincipalARN = bad }, true, []string{"all"}, 0},
		{"a permit for Unknown by name", `@id("unknown") permit(principal is Unknown, action, resource) when { principal.arn == "nobody" };`,
			func(r *Request) { r.PrincipalARN = "nobody" }, true, []string{"unknown"}, 0},
		{"a service is no member of an account", `permit(principal in Account::"111122223333", action, resource);`, func(r *Request) { r.PrincipalARN = "s3.amazonaws.com" }, false, nil, 0},

		{"another action", permitAll, func(r *Request) { r.Action = "GetHealthStatus" }, false, nil, 1},
		{"no key store", permitAll, func(r *Request) { r.KeyStore = "" }, false, nil, 1},
		{"a key id that crosses into another store", permitAll, func(r *Request) { r.KeyID = "../other/key" }, false, nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := testRequest()
			if test.change != nil {
				test.change(&r)
			}
			p := mustParse(t, test.document)
			d := p.Decide(ModeEnforce, r)
			if d.Allowed != test.allowed || d.Shadow || !slices.Equal(d.Policies, test.policies) ||
				len(d.Errors) != test.errors {
				t.Errorf("%+v: %s", d, d.Explain())
			}
			shadow := p.Decide(ModeShadow, r)
			if !shadow.Allowed || shadow.Shadow == test.allowed ||
				!slices.Equal(shadow.Policies, test.policies) ||
				shadow.Explain() != d.Explain() {
				t.Errorf("in shadow mode: %+v", shadow)
			}
		})
	}
}

func TestNilPoliciesDeny(t *testing.T) {
	var p *Policies
	d := p.Decide(ModeEnforce, testRequest())
	if d.Allowed || len(d.Errors) != 1 {
		t.Errorf("%+v", d)
	}
}

// A role is its ARN; a session belongs to the role without a path; names under another path are
// other roles.
func TestRolesAndSessions(t *testing.T) {
	const role = "arn:aws:iam::111122223333:role/app"
	p := mustParse(t, `permit(principal in Role::"`+role+`", action, resource);`)
	for text, want := range map[string]bool{
		role: true, "arn:aws:sts::111122223333:assumed-role/app/session": true,
		"arn:aws:iam::111122223333:role/path/app": false, "arn:aws:iam::444455556666:role/app": false, "arn:aws-cn:iam::111122223333:role/app": false,
		"arn:aws:iam::111122223333:user/app": false, "arn:aws:sts::111122223333:assumed-role/App/session": false, "arn:aws:sts::111122223333:federated-user/app": false,
		"arn:aws:sts::444455556666:assumed-role/app/session": false,
	} {
		r := testRequest()
		r.PrincipalARN = text
		if got := p.Decide(ModeEnforce, r).Allowed; got != want {
			t.Errorf("%s: allowed %v", text, got)
		}
	}
	linked := mustParse(
		t,
		`permit(principal is Role, action, resource) when { principal has service && principal.service == "rds.amazonaws.com" };`,
	)
	r := testRequest()
	r.PrincipalARN = "arn:aws:iam::111122223333:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS"
	if d := linked.Decide(ModeEnforce, r); !d.Allowed {
		t.Error(d.Explain())
	}
}

// What a hostile request can put into a decision is bounded.
func TestDecisionIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString(`permit(principal, action, resource);`)
	for range 40 {
		b.WriteString(
			"\nforbid(principal, action, resource) when { context.operation == context.region || context.hour + 9223372036854775807 > 0 };",
		)
	}
	p := mustParse(t, b.String())
	r := testRequest()
	for _, text := range []string{"x", strings.Repeat("\x00\xff\"", 50_000)} {
		r.PrincipalARN, r.KMSOperation, r.KeyLabel, r.Owner = text, text, text, text
		d := p.Decide(ModeEnforce, r)
		if d.Allowed || len(d.Errors) == 0 || len(d.Errors) > maxErrors {
			t.Errorf("%v with %d errors", d.Allowed, len(d.Errors))
		}
		for _, e := range d.Errors {
			if len(e) > maxErrorText || !isReadable(e) {
				t.Errorf("error of %d bytes: %q", len(e), e)
			}
		}
	}
}

// Policies are immutable: many goroutines share them. Meant for -race.
func TestDecideConcurrently(t *testing.T) {
	p := mustParse(t, hundredPolicies())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				r := benchmarkRequest()
				d := p.Decide(ModeEnforce, r)
				if !d.Allowed {
					t.Error(d.Explain())
				}
			}
		})
	}
	wg.Wait()
}

func TestParseMode(t *testing.T) {
	for name, want := range map[string]Mode{"enforce": ModeEnforce, "shadow": ModeShadow, "": "", "Enforce": "", "off": ""} {
		got, err := ParseMode(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", name, got, err)
		}
	}
}
