package authz

// Loading: each fault with its exact report, warnings (Z4), files and directories.

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// badDocuments: for each fault its whole report. A set is loaded whole or not at all, so each has a
// good policy, too.
var badDocuments = []struct{ name, document, want string }{
	{
		"not Cedar", "permit(principal, action,\n resource) whem { true };",
		`t.cedar:2:12: not Cedar: found whem where ; is expected: write when or unless`,
	},
	{"not text", "\xff\x00", `t.cedar:1:1: not Cedar: invalid character NUL`},
	{"empty", "// nothing\n", `policies: none in these files; every request would be denied`},
	{
		"action", `permit(principal, action == Action::"Encript", resource);`,
		`t.cedar:1:37: policy "t.cedar:1": there is no action "Encript" (did you mean Encrypt?); there are Use, Encrypt, Decrypt, GetKeyMetadata`,
	},
	{"health", `permit(principal, action == Action::"GetHealthStatus", resource);`,
		`t.cedar:1:37: policy "t.cedar:1": there is no action GetHealthStatus: health checks of AWS KMS are never subject to policies; leave it out`},
	{
		"nothing permitted", `forbid(principal, action, resource) when { context.hour > 3 };`,
		`policies: ` + NothingPermitted,
	},
	{
		"everything forbidden",
		"permit(principal, action, resource);\n@id(\"no\") forbid(principal, action, resource);",
		`policies: ` + NothingPermitted,
	},
	{
		"a permit that is never true", `permit(principal, action, resource) when { false };`,
		`policies: ` + NothingPermitted,
	},
	{
		"entity type", `permit(principal in Acount::"111122223333", action, resource);`,
		`t.cedar:1:21: policy "t.cedar:1": there is no entity type Acount (did you mean Account?)`,
	},
	{
		"entity type in a condition",
		"permit(principal, action, resource)\nwhen { principal is Rolle };",
		`t.cedar:2:21: policy "t.cedar:1": there is no entity type Rolle (did you mean Role?)`,
	},
	{
		"context attribute behind has",
		`permit(principal, action, resource) when { context has vcpe && context.vcpe == "x" };`,
		`t.cedar:1:56: policy "t.cedar:1": context has no attribute vcpe (did you mean vpce?); it has accessKeyId, hour, kmsKeyAccount, kmsKeyArn, kmsKeyRegion, operation, region, time, viaService, viaServiceName, vpc, vpce, weekday`,
	},
	{
		"principal attribute",
		`permit(principal is User, action, resource) when { principal.nme == "x" };`,
		`t.cedar:1:62: policy "t.cedar:1": principal has no attribute nme (did you mean name?); it has account, arn, name, partition, path, service, sessionName`,
	},
	{
		"resource attribute", `permit(principal, action, resource) when { resource.store == "x" };`,
		`t.cedar:1:53: policy "t.cedar:1": resource has no attribute store; it has id, keyStore, label, owner`,
	},
	{
		"attribute of some principals",
		`permit(principal, action, resource) when { principal.account == "x" };`,
		"t.cedar:1:54: policy \"t.cedar:1\": there is no attribute account on Service, Unknown: ask first, `… has account && …`, or write `is` and a type in the head",
	},
	{
		"optional attribute of the context",
		`permit(principal, action, resource) when { context.vpce == "x" };`,
		"t.cedar:1:52: policy \"t.cedar:1\": context.vpce may be absent: ask first, `context has vpce && …`",
	},
	{
		"optional attribute of the resource",
		`permit(principal, action, resource) when { resource.owner == "x" };`,
		"t.cedar:1:53: policy \"t.cedar:1\": resource.owner may be absent: ask first, `resource has owner && …`",
	},
	{
		"optional attribute of the principal",
		`permit(principal is Role, action, resource) when { principal.service == "x" };`,
		"t.cedar:1:62: policy \"t.cedar:1\": principal.service may be absent: ask first, `principal has service && …`",
	},
	{"never carried", `permit(principal, action, resource) when { context.kmsKeyAccount == "x" };`,
		"t.cedar:1:52: policy \"t.cedar:1\": GetKeyMetadata never carries context.kmsKeyAccount: write the actions that do in the head, `action in [Action::\"Encrypt\", Action::\"Decrypt\"]`"},
	{
		"type", `permit(principal, action, resource) when { context.hour < "x" };`,
		`t.cedar:1:1: policy "t.cedar:1": type check: unexpected type: expected datetime, or duration, or Long but saw String`,
	},
	{
		"mixed set",
		`permit(principal, action, resource) when { principal in [Account::"111122223333", Role::"arn:aws:iam::111122223333:role/app"] };`,
		"t.cedar:1:1: policy \"t.cedar:1\": Account and Role do not go together in one set or comparison: write `… || …`",
	},
	{
		"no such principal", `permit(principal is Key, action, resource);`,
		`t.cedar:1:1: policy "t.cedar:1": no request can match the head: no action has such a principal and such a resource`,
	},
	{
		"account", `permit(principal in Account::"1111-2222-3333", action, resource);`,
		`t.cedar:1:30: policy "t.cedar:1": Account::"1111-2222-3333" can never match: its id must be an account id of 12 digits`,
	},
	{
		"account in a set",
		`permit(principal, action, resource) when { principal in [Account::"111122223333", Account::"11112222333"] };`,
		`t.cedar:1:92: policy "t.cedar:1": Account::"11112222333" can never match: its id must be an account id of 12 digits`,
	},
	{
		"user", `permit(principal == User::"bob", action, resource);`,
		`t.cedar:1:27: policy "t.cedar:1": User::"bob" can never match: its id must be an ARN arn:aws:iam::111122223333:user/path/name`,
	},
	{
		"user that is a role",
		`permit(principal == User::"arn:aws:iam::111122223333:role/app", action, resource);`,
		`t.cedar:1:27: policy "t.cedar:1": User::"arn:aws:iam::111122223333:role/app" can never match: its id must be an ARN arn:aws:iam::111122223333:user/path/name; this is the id of the entity type Role`,
	},
	{
		"service", `forbid(principal == Service::"ec2", action, resource);`,
		`t.cedar:1:30: policy "t.cedar:1": Service::"ec2" can never match: its id must be a service principal such as ec2.amazonaws.com, or AWS Internal`,
	},
	{
		"key", `permit(principal, action, resource == Key::"payroll-1");`,
		`t.cedar:1:44: policy "t.cedar:1": Key::"payroll-1" can never match: its id must be "key store/external key id"`,
	},
	{
		"id twice",
		"@id(\"a\") permit(principal, action, resource);\n@id(\"a\") permit(principal, action, resource);",
		`t.cedar:2:2: policy "a": the id is taken by the policy at t.cedar:1: give each its own @id`,
	},
	{
		"id empty", `@id permit(principal, action, resource);`,
		`t.cedar:1:2: an @id is 1 to 128 printable characters`,
	},
	{
		"two on one line",
		`permit(principal, action, resource);forbid(principal, action, resource);`,
		`t.cedar:1:37: policy "t.cedar:1": the id is taken by the policy at t.cedar:1: give each its own @id`,
	},
	{
		"nested",
		"permit(principal, action, resource) when { " + strings.Repeat(
			"(", 65,
		) + "true" + strings.Repeat(")", 65) + " };",
		`t.cedar:1:107: nested deeper than 64`,
	},
	{
		"negated",
		"permit(principal, action, resource) when { " + strings.Repeat("!", 65) + "true };",
		`t.cedar:1:108: nested deeper than 64`,
	},
	{
		"large", strings.Repeat("// x\n", maxFile/5+1),
		`t.cedar: 262145 bytes; at most 262144: split it`,
	},
	{
		"comments do not mislead the report",
		"permit(principal, action, resource) // vcpe \" {\nwhen { context has vpc && context.vpc == \"//vcpe\" && context has vcpe };",
		`t.cedar:2:66: policy "t.cedar:1": context has no attribute vcpe (did you mean vpce?); it has accessKeyId, hour, kmsKeyAccount, kmsKeyArn, kmsKeyRegion, operation, region, time, viaService, viaServiceName, vpc, vpce, weekday`,
	},
	{
		"template", `permit(principal == ?principal, action, resource);`,
		`t.cedar:1:21: not Cedar: ? is not expected here: templates (?principal, ?resource) are not supported; name the entity`,
	},
	{
		"faults of one policy, in order",
		`permit(principal in Acount::"1", action, resource) when { context has x };`,
		"t.cedar:1:21: policy \"t.cedar:1\": there is no entity type Acount (did you mean Account?)\n" +
			`t.cedar:1:71: policy "t.cedar:1": context has no attribute x; it has accessKeyId, hour, kmsKeyAccount, kmsKeyArn, kmsKeyRegion, operation, region, time, viaService, viaServiceName, vpc, vpce, weekday`,
	},
	{
		"two faults, in order",
		"permit(principal, action, resource) when { context.vpce == \"x\" };\npermit(principal in Account::\"1\", action, resource);",
		"t.cedar:1:52: policy \"t.cedar:1\": context.vpce may be absent: ask first, `context has vpce && …`\n" +
			`t.cedar:2:30: policy "t.cedar:2": Account::"1" can never match: its id must be an account id of 12 digits`,
	},
}

func TestBadDocuments(t *testing.T) {
	for _, test := range badDocuments {
		t.Run(test.name, func(t *testing.T) {
			p, warnings, err := Parse("t.cedar", []byte(test.document))
			if err == nil || p != nil || warnings != nil {
				t.Fatalf("loaded: %v, %v, %v", p, warnings, err)
			}
			if err.Error() != test.want {
				t.Errorf("\n got %s\nwant %s", err, test.want)
			}
			var problem Problem
			if !errors.As(err, &problem) {
				t.Errorf("%T is no Problem", err)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	const all = `permit(principal, action, resource);`
	for _, test := range []struct{ name, document, want string }{
		{"none", all, ""},
		{"guarded and never carried (Z4)", all + "\n" + `forbid(principal, action, resource) when { context has viaService && context.viaService == "ebs" };`,
			"t.cedar:2:56: policy \"t.cedar:2\": GetKeyMetadata, which AWS KMS asks for in CreateKey, never carries context.viaService: write `action in [Action::\"Encrypt\", Action::\"Decrypt\"]` in the head, and give GetKeyMetadata a policy of its own"},
		{"never carried, by the group (Z4)", all + "\n" + `forbid(principal, action in Action::"Use", resource) when { context has kmsKeyRegion && context.kmsKeyRegion == "eu-west-1" };`,
			"t.cedar:2:73: policy \"t.cedar:2\": GetKeyMetadata, which AWS KMS asks for in CreateKey, never carries context.kmsKeyRegion: write `action in [Action::\"Encrypt\", Action::\"Decrypt\"]` in the head, and give GetKeyMetadata a policy of its own"},
		{"the context as a whole", all + "\n" + `forbid(principal, action, resource) when { context != context };`, ""},
		{"restricted", all + "\n" + `forbid(principal, action == Action::"Decrypt", resource) when { context.kmsKeyRegion == "eu-west-1" };`, ""},
		{"operation", all + "\n" + `forbid(principal, action, resource) when { context.operation == "GenerateDatakey" };`,
			`t.cedar:2:65: policy "t.cedar:2": AWS KMS sends no kmsOperation "GenerateDatakey" today (did you mean GenerateDataKey?)`},
		{"operation in a set", all + "\n" + `forbid(principal, action, resource) when { ["Decrypt", "BulkEncrypt"].contains(context.operation) };`,
			`t.cedar:2:56: policy "t.cedar:2": AWS KMS sends no kmsOperation "BulkEncrypt" today`},
		{"an action that nothing permits", `permit(principal, action in [Action::"Encrypt", Action::"Decrypt"], resource);`, "policies: no permit is for GetKeyMetadata: every GetKeyMetadata is denied"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, warnings, err := Parse("t.cedar", []byte(test.document))
			if err != nil {
				t.Fatal(err)
			}
			if p.Len() == 0 {
				t.Error("no policies")
			}
			var got []string
			for _, w := range warnings {
				got = append(got, w.Error())
			}
			if strings.Join(got, "\n") != test.want {
				t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n"), test.want)
			}
		})
	}
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		err = os.WriteFile(path, []byte(text), 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadDirectory(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"b.cedar": "// b\n\npermit(principal, action, resource);", "a.cedar": `@id("first") forbid(principal is RootUser, action, resource);`,
		"a.cases.jsonl": "{}", ".hidden.cedar": "not Cedar", "below/c.cedar": "not Cedar", "notes.txt": "not Cedar",
	})
	p, warnings, err := Load(dir, filepath.Join(dir, "a.cedar")) // a file named twice is one
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if got := p.IDs(); !slices.Equal(got, []string{"first", "b.cedar:3"}) {
		t.Errorf("%v", got)
	}
	if p.Place("first") != "a.cedar:1" || p.Place("b.cedar:3") != "b.cedar:3" ||
		p.Place("none") != "" {
		t.Error(p.places)
	}
}

func TestLoadIsAllOrNothing(t *testing.T) {
	dir := writeFiles(
		t,
		map[string]string{
			"a.cedar": "permit(principal, action, resource);",
			"b.cedar": "permit(principal, action, resource);\nforbid(principal in Acount::\"1\", action, resource);",
		},
	)
	p, _, err := Load(dir)
	if p != nil || err == nil ||
		!strings.Contains(
			err.Error(), `b.cedar:2:21: policy "b.cedar:2": there is no entity type Acount`,
		) {
		t.Errorf("%v, %v", p, err)
	}
	empty := t.TempDir()
	for _, path := range []string{empty, filepath.Join(empty, "missing.cedar"), "/dev/null"} {
		p, _, err := Load(path)
		if p != nil || err == nil {
			t.Errorf("%s loads", path)
		}
	}
	_, _, err = Load(filepath.Join(empty, "missing.cedar"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	_, _, err = Load()
	if err == nil {
		t.Error("no path at all loads")
	}
	twice := writeFiles(
		t,
		map[string]string{
			"x/a.cedar": "permit(principal, action, resource);",
			"y/a.cedar": "permit(principal, action, resource);",
		},
	)
	_, _, err = Load(filepath.Join(twice, "x"), filepath.Join(twice, "y"))
	if err == nil || !strings.Contains(err.Error(), "the id is taken by the policy at a.cedar:1") {
		t.Error(err)
	}
}

func TestProblemsAreCapped(t *testing.T) {
	_, _, err := Parse(
		"t.cedar",
		[]byte(strings.Repeat("permit(principal in Account::\"1\", action, resource);\n", 80)),
	)
	if err == nil || strings.Count(err.Error(), "\n") != maxProblems ||
		!strings.HasSuffix(err.Error(), "and 30 more") {
		t.Error(err)
	}
}
