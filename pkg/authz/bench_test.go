package authz

// What a decision costs: the goal is under 10 µs with 100 policies.

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
)

// hundredPolicies is what a shared service might have: a permit for each of 60 accounts, 20 roles,
// 10 services, and 10 forbids with conditions.
func hundredPolicies() string {
	var b strings.Builder
	for i := range 60 {
		fmt.Fprintf(
			&b,
			"permit(principal in Account::\"%012d\", action, resource in KeyStore::\"store-%d\");\n",
			i+1, i,
		)
	}
	for i := range 20 {
		fmt.Fprintf(
			&b,
			"permit(principal in Role::\"arn:aws:iam::111122223333:role/app-%d\", action in [Action::\"Encrypt\", Action::\"Decrypt\"], resource)\n"+
				"when { context has vpce && context.vpce == \"vpce-%d\" };\n",
			i,
			i,
		)
	}
	for i := range 10 {
		fmt.Fprintf(
			&b,
			"permit(principal in Account::\"111122223333\", action == Action::\"Decrypt\", resource in KeyStore::\"agency\")\n"+
				"when { context has viaServiceName && [\"s3\", \"rds\", \"ebs%d\"].contains(context.viaServiceName) };\n",
			i,
		)
	}
	for i := range 10 {
		fmt.Fprintf(
			&b,
			"forbid(principal, action == Action::\"Decrypt\", resource in KeyStore::\"agency\")\n"+
				"when { context.hour == %d && context.kmsKeyAccount == \"%012d\" };\n",
			i,
			i,
		)
	}
	return b.String()
}

func benchmarkRequest() Request {
	return Request{
		Action: Decrypt, KeyStore: "agency", KeyID: "agency-payroll-prod", KeyLabel: "agency-payroll-prod",
		PrincipalARN: "arn:aws:sts::111122223333:assumed-role/app-19/i-0123456789abcdef0", KMSOperation: "Decrypt",
		KMSKeyARN: new(
			"arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		),
		KMSViaService: new(
			"s3.eu-west-1.amazonaws.com",
		), SourceVPC: new("vpc-0123456789abcdef0"), SourceVPCE: new("vpce-19"),
		AccessKeyID: "BETWEENTWENTYANDTHIRTY", Region: "eu-west-1", Time: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC),
	}
}

func BenchmarkDecide(b *testing.B) {
	p, _, err := Parse("bench.cedar", []byte(hundredPolicies()))
	if err != nil {
		b.Fatal(err)
	}
	if p.Len() != 100 {
		b.Fatalf("%d policies", p.Len())
	}
	odd := benchmarkRequest()
	odd.PrincipalARN = strings.Repeat("é\x00\"", 40_000)
	metadata := benchmarkRequest()
	metadata.Action = GetKeyMetadata
	for name, r := range map[string]Request{"Decrypt": benchmarkRequest(), "GetKeyMetadata": metadata, "HostileARN": odd} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(ModeEnforce, r)
			}
		})
	}
}

// BenchmarkCedarAlone is cedar-go on the whole policies, for comparison with
// BenchmarkDecide/Decrypt.
func BenchmarkCedarAlone(b *testing.B) {
	both, r := newTwins(b, hundredPolicies()), benchmarkRequest()
	b.ReportAllocs()
	for b.Loop() {
		world := newEntities(&r)
		world.wanted = allAttributes
		cedar.Authorize(both.theirs, world, cedar.Request{
			Principal: world.principal.uid, Action: actionUID(r.Action), Resource: world.key, Context: r.context(allAttributes),
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	document := []byte(hundredPolicies())
	b.ReportAllocs()
	for b.Loop() {
		_, _, err := Parse("bench.cedar", document)
		if err != nil {
			b.Fatal(err)
		}
	}
}
