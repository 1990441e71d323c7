package authz

// Files of cases: what is read, what is refused, and the table.

import (
	"slices"
	"strings"
	"testing"
)

const caseLine = `{"name":"n","expect":"deny","operation":"Encrypt","key_store":"agency","key":"payroll-1","aws_principal_arn":"arn:aws:iam::111122223333:user/Alice"`

// logLine is a line of the proxy's log with every field it can have.
const logLine = `{"level":"info","time":"2026-03-04T12:00:00.000123Z","msg":"request","status":200,"duration_ms":1.5,"remote":"192.0.2.1:4711","new_connection":false,"protocol":"HTTP/1.1",` +
	`"operation":"Decrypt","key_store":"agency","key":"payroll-1","authenticated":true,"access_key_id":"BETWEENTWENTYANDTHIRTY","region":"eu-west-1",` +
	`"kms_request_id":"4112f4d6-db54-4af4-ae30-c55a22a8dfae","kms_operation":"Decrypt","aws_principal_arn":"arn:aws:iam::111122223333:user/Alice",` +
	`"kms_key_arn":"arn:aws:kms:eu-west-1:111122223333:key/1234","kms_via_service":"ebs","aws_source_vpc":"vpc-1","aws_source_vpce":"vpce-2","request_metadata_other":"{}",` +
	`"key_version":2,"hsm":"a","attempts":1,"hedges":1,"verified_by":"b","hsm_faults":["x"],"outcome":"ok","error_name":"x","reason":"x","authentication_failure":"x",` +
	`"claimed_access_key_id":"x","panic":"x","stack":"x","client_gone":true,"reply_not_sent":"x","method":"POST","path":"/"}`

func TestRunCases(t *testing.T) {
	p := mustParse(
		t,
		`@id("account") permit(principal in Account::"111122223333", action, resource);`+"\n"+
			`@id("no-ebs") forbid(principal, action == Action::"Decrypt", resource) when { context has viaServiceName && context.viaServiceName == "ebs" && context.hour == 12 };`,
	)
	file := strings.Join([]string{
		logLine,
		`{"time":"2026-03-04T12:00:00Z","msg":"request","operation":"GetHealthStatus","key_store":"agency"}`,
		`{"time":"2026-03-04T12:00:00Z","msg":"started"}`,
		"[" + caseLine + `,"policies":[]},` + caseLine + `}]`,
		strings.Replace(caseLine, "deny", "allow", 1) + `,"policies":["account"]}`,
		strings.Replace(caseLine, "deny", "allow", 1) + `,"policies":["other"]}`,
		strings.Replace(
			logLine, `"level"`,
			`"name":"from the log","expect":"deny","policies":["no-ebs"],"level"`, 1,
		),
	}, "\n")
	results, err := RunCases(p, KeyStore{}, strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range results.Rows() {
		got = append(
			got, strings.Join([]string{row.Result, row.Case, row.Decision, row.Why}, " | "),
		)
	}
	want := []string{
		"- | 4112f4d6-db54-4af4-ae30-c55a22a8dfae | deny | forbidden by no-ebs",
		"FAIL | n | allow | permitted by account; expected deny",
		"FAIL | n | allow | permitted by account; expected deny",
		"ok | n | allow | permitted by account",
		"FAIL | n | allow | permitted by account; expected the policies other",
		"ok | from the log | deny | forbidden by no-ebs",
	}
	if !slices.Equal(got, want) || results.Failures() != 3 || results.Skipped != 2 {
		t.Errorf(
			"%d failures, %d passed over\n%s", results.Failures(), results.Skipped,
			strings.Join(got, "\n"),
		)
	}
}

func TestBadCases(t *testing.T) {
	p := mustParse(t, `permit(principal, action, resource);`)
	for _, test := range []struct{ name, file, want string }{
		{"empty", "", "policy cases: no request for a key among 0 entries"},
		{"nothing for us", `{"operation":"GetHealthStatus"}`, "policy cases: no request for a key among 1 entries"},
		{"cut off", caseLine, "policy cases: entry 1, near byte"},
		{"no JSON", caseLine + "} x", "policy cases: entry 2, near byte"},
		{"no object", `7`, "policy cases: entry 1, near byte"},
		{"unclosed array", "[" + caseLine + "}", "policy cases: entry 2, near byte"},
		{"expect", strings.Replace(caseLine, "deny", "denied", 1) + "}", `policy cases: entry 1: expect "denied": use allow or deny`},
		{"field misspelled", caseLine + `,"aws_principle_arn":"x"}`, `policy cases: entry 1: unknown field "aws_principle_arn": did you mean aws_principal_arn?`},
		{"field twice", caseLine + `,"key":"x"}`, "policy cases: entry 1, near byte"},
		{"operation misspelled", strings.Replace(caseLine, "Encrypt", "encrypt", 1) + "}", `policy cases: entry 1: operation "encrypt": use Encrypt, Decrypt or GetKeyMetadata`},
		{"policies without expect", strings.Replace(caseLine, `"expect":"deny",`, `"policies":["x"],`, 1) + "}", "policy cases: entry 1: policies without expect"},
		{"time", caseLine + `,"time":"noon"}`, `policy cases: entry 1: time "noon" is not of the form 2026-01-02T15:04:05Z`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := RunCases(p, KeyStore{}, strings.NewReader(test.file))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
	_, err := RunCaseFile(p, KeyStore{}, t.TempDir()+"/missing.jsonl")
	if err == nil {
		t.Error("a missing file runs")
	}
}

func FuzzRunCases(f *testing.F) {
	p := mustParse(f, everyHead)
	f.Add(logLine)
	f.Add("[" + caseLine + "}]")
	f.Add(caseLine + `,"time":"2026-03-04T12:00:00Z"}{"operation":"GetHealthStatus"}`)
	f.Fuzz(func(t *testing.T, file string) {
		results, err := RunCases(p, KeyStore{}, strings.NewReader(file))
		if err == nil && len(results.Cases) == 0 {
			t.Fatal("no cases and no error")
		}
		if len(results.Rows()) != len(results.Cases) {
			t.Fatal("rows")
		}
	})
}
