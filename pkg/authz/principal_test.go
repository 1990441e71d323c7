package authz

// Principals and other ARNs, the odd ones most of all (U11).

import (
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go/types"
)

// Every text is some principal (U11), and only what is fully understood belongs to an account (Z1).
func TestParsePrincipal(t *testing.T) {
	const account = "111122223333"
	path512 := strings.Repeat("abcdefg/", 63) + "abcdef/" // with its leading slash 512
	for _, test := range []struct {
		text string
		want principal // uid.Type and the parts; uid.ID and arn are the text
	}{
		{"arn:aws:iam::111122223333:root", principal{uid: types.EntityUID{Type: typeRoot}, partition: "aws", account: account}},
		{"arn:aws:iam::111122223333:user/Alice", principal{uid: types.EntityUID{Type: typeUser}, partition: "aws", account: account, path: "/", name: "Alice"}},
		{"arn:aws:iam::111122223333:user/a/b/Alice", principal{uid: types.EntityUID{Type: typeUser}, partition: "aws", account: account, path: "/a/b/", name: "Alice"}},
		{"arn:aws:iam::111122223333:user/" + path512 + "x", principal{uid: types.EntityUID{Type: typeUser}, partition: "aws", account: account, path: "/" + path512, name: "x"}},
		{"arn:aws-cn:iam::111122223333:user/Alice", principal{uid: types.EntityUID{Type: typeUser}, partition: "aws-cn", account: account, path: "/", name: "Alice"}},
		{"arn:aws-us-gov:iam::111122223333:role/app", principal{uid: types.EntityUID{Type: typeRole}, partition: "aws-us-gov", account: account, path: "/", name: "app"}},
		{"arn:aws-iso-b:iam::111122223333:role/app", principal{uid: types.EntityUID{Type: typeRole}, partition: "aws-iso-b", account: account, path: "/", name: "app"}},
		{"arn:aws:iam::111122223333:role/aws-service-role/rds.amazonaws.com/AWSServiceRoleForRDS", principal{uid: types.EntityUID{Type: typeRole}, partition: "aws",
			account: account, path: "/aws-service-role/rds.amazonaws.com/", name: "AWSServiceRoleForRDS", service: "rds.amazonaws.com"}},
		{"arn:aws:iam::111122223333:role/x/aws-service-role/rds.amazonaws.com/R", principal{uid: types.EntityUID{Type: typeRole}, partition: "aws",
			account: account, path: "/x/aws-service-role/rds.amazonaws.com/", name: "R"}},
		{"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admin_0123456789abcdef", principal{uid: types.EntityUID{Type: typeRole},
			partition: "aws", account: account, path: "/aws-reserved/sso.amazonaws.com/eu-west-1/", name: "AWSReservedSSO_Admin_0123456789abcdef"}},
		{"arn:aws:iam::111122223333:role/aws:ec2-infrastructure", principal{uid: types.EntityUID{Type: typeRole}, partition: "aws", account: account, path: "/", name: "aws:ec2-infrastructure"}},
		{"arn:aws:sts::111122223333:assumed-role/app/alice@example.com", principal{uid: types.EntityUID{Type: typeSession}, partition: "aws", account: account,
			name: "app", session: "alice@example.com", role: "arn:aws:iam::111122223333:role/app"}},
		{"arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-0123456789abcdef0", principal{uid: types.EntityUID{Type: typeSession}, partition: "aws", account: account,
			name: "aws:ec2-infrastructure", session: "i-0123456789abcdef0", role: "arn:aws:iam::111122223333:role/aws:ec2-infrastructure"}},
		{"arn:aws:sts::111122223333:federated-user/alice", principal{uid: types.EntityUID{Type: typeFederated}, partition: "aws", account: account, name: "alice"}},
		{"ec2.amazonaws.com", principal{uid: types.EntityUID{Type: typeService}, name: "ec2.amazonaws.com"}},
		{"delivery.logs.amazonaws.com", principal{uid: types.EntityUID{Type: typeService}, name: "delivery.logs.amazonaws.com"}},
		{"ec2.amazonaws.com.cn", principal{uid: types.EntityUID{Type: typeService}, name: "ec2.amazonaws.com.cn"}},
		{"AWS Internal", principal{uid: types.EntityUID{Type: typeService}, name: "AWS Internal"}},
	} {
		test.want.uid.ID, test.want.arn = types.String(test.text), test.text
		got := parsePrincipal(test.text)
		if got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", test.text, got, test.want)
		}
	}
}

func TestUnknownPrincipals(t *testing.T) {
	for _, text := range oddPrincipals {
		p := parsePrincipal(text)
		if p.uid.Type != typeUnknown || p.account != "" || len(p.ancestors()) != 0 {
			t.Errorf("%.80q is %v in account %q", text, p.uid.Type, p.account)
		}
		if len(p.uid.ID) > maxUnknown*3+len("…") ||
			(string(p.uid.ID) != "" && !isReadable(string(p.uid.ID))) {
			t.Errorf(
				"%.80q gets an id that does not fit a log: %.80q (%d bytes)", text, p.uid.ID,
				len(p.uid.ID),
			)
		}
	}
}

var oddPrincipals = []string{
	"", " ", "arn", "arn:", "arn:::::", "*", "111122223333", "anonymous", "AIDAEXAMPLEEXAMPLEEX", "aws internal", "AWS Internal ", "\x00",
	"arn:aws:iam::111122223333:user/", "arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:root/", "arn:aws:iam::111122223333:", "arn:aws:iam::111122223333",
	"arn:aws:iam::111122223333:user/Alice\x00", "arn:aws:iam::111122223333:user/Al\nice", `arn:aws:iam::111122223333:user/Al"ice`, "arn:aws:iam::111122223333:user/Älice",
	"arn:aws:iam::111122223333:user/A\xffice", "arn:aws:iam::111122223333:user/Alice ", " arn:aws:iam::111122223333:user/Alice", "ARN:aws:iam::111122223333:user/Alice",
	"arn:aws:iam::11112222333:user/Alice", "arn:aws:iam::1111222233334:user/Alice", "arn:aws:iam::11112222333x:user/Alice", "arn:aws:iam::１１１１２２２２３３３３:user/Alice",
	"arn:aws:iam::*:user/Alice", "arn:aws:iam::111122223333:user/*", "arn:aws:iam:eu-west-1:111122223333:user/Alice", "arn:evil:iam::111122223333:user/Alice",
	"arn:aws2:iam::111122223333:user/Alice", "arn:aws_cn:iam::111122223333:user/Alice", "arn::iam::111122223333:user/Alice", "arn:aws:s3::111122223333:user/Alice",
	"arn:aws:iam::111122223333:group/Admins", "arn:aws:iam::111122223333:saml-provider/x", "arn:aws:iam::111122223333:assumed-role/a/b", "arn:aws:sts::111122223333:role/a",
	"arn:aws:sts::111122223333:assumed-role/app", "arn:aws:sts::111122223333:assumed-role/app/", "arn:aws:sts::111122223333:assumed-role/a/b/c", "arn:aws:sts::111122223333:assumed-role//b",
	"arn:aws:sts::111122223333:assumed-role/evil:x/b", "arn:aws:sts::111122223333:federated-user/", "arn:aws:sts::111122223333:federated-user/a/b", "arn:aws:iam::111122223333:user//Alice",
	"arn:aws:iam::111122223333:user/" + strings.Repeat(
		"a", 65,
	), "arn:aws:iam::111122223333:user/" + strings.Repeat("a/", 300) + "b",
	"arn:aws:iam::111122223333:user/" + strings.Repeat(
		"a", 2048,
	), strings.Repeat("\x00", 100_000), strings.Repeat("é", 3000), strings.Repeat("\xff", 3000),
	"amazonaws.com", ".amazonaws.com", "ec2.amazonaws.com.evil.example", "EC2.amazonaws.com", "ec2..amazonaws.com", "ec2.amazonaws.com\n", "evil.example/ec2.amazonaws.com",
	"ec2amazonaws.com", "ec2.amazonaws.com.cn.cn", strings.Repeat("a.", 2000) + "amazonaws.com",
}

func TestParseKMSKey(t *testing.T) {
	for text, want := range map[string]string{
		"arn:aws:kms:us-east-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab": "123456789012 us-east-2",
		"arn:aws-cn:kms:cn-north-1:123456789012:key/mrk-1234abcd":                     "123456789012 cn-north-1",
		"arn:aws:kms:us-east-2:123456789012:/key/1234abcd":                            "", // the specification's own example (U11)
		"arn:aws:kms:us-east-2:123456789012:alias/x":                                  "",
		"arn:aws:kms::123456789012:key/1234abcd":                                      "",
		"arn:aws:s3:us-east-2:123456789012:key/1234abcd":                              "",
		"arn:aws:kms:us-east-2:12345678901:key/1234abcd":                              "",
		"arn:aws:kms:us-east-2:123456789012:key/":                                     "",
		"arn:aws:kms:us-east-2:123456789012:key/a:b":                                  "",
		"": "",
	} {
		account, region, ok := parseKMSKey(text)
		switch {
		case ok != (want != ""):
			t.Errorf("%q: parses %v", text, ok)
		case ok && account+" "+region != want:
			t.Errorf("%q: %s %s", text, account, region)
		}
	}
}

func TestServiceName(t *testing.T) {
	for text, want := range map[string]string{
		"ebs": "ebs", "rds.us-east-1.amazonaws.com": "rds", "s3.cn-north-1.amazonaws.com.cn": "s3", "secretsmanager.amazonaws.com": "secretsmanager",
		"": "", "rds.": "", "rds.example.com": "", ".us-east-1.amazonaws.com": "", "RDS": "", "rds.amazonaws.com.evil": "", "rds/x": "",
	} {
		name, ok := serviceName(text)
		if ok != (want != "") || (ok && name != want) {
			t.Errorf("%q: %q %v", text, name, ok)
		}
	}
}

// An ARN that parses says no more than its text: put together again from its parts, it is the same.
func FuzzParsePrincipal(f *testing.F) {
	for _, seed := range oddPrincipals {
		if len(seed) < 4096 {
			f.Add(seed)
		}
	}
	for _, seed := range []string{
		"arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/a/Alice", "arn:aws:iam::111122223333:role/aws:ec2-infrastructure",
		"arn:aws:sts::111122223333:assumed-role/app/alice@example.com", "arn:aws:sts::111122223333:federated-user/alice", "ec2.amazonaws.com", "AWS Internal",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := parsePrincipal(text)
		iam, sts := "arn:"+p.partition+":iam::"+p.account+":", "arn:"+p.partition+":sts::"+p.account+":"
		again := ""
		switch p.uid.Type {
		case typeRoot:
			again = iam + "root"
		case typeUser:
			again = iam + "user" + p.path + p.name
		case typeRole:
			again = iam + "role" + p.path + p.name
		case typeSession:
			again = sts + "assumed-role/" + p.name + "/" + p.session
		case typeFederated:
			again = sts + "federated-user/" + p.name
		case typeService:
			again = p.name
		default:
			if p.account != "" || len(p.ancestors()) != 0 {
				t.Fatalf("%q: %v belongs to %v", text, p.uid, p.ancestors())
			}
			return
		}
		if again != text || string(p.uid.ID) != text || !isReadable(text) {
			t.Fatalf("%q: %+v says %q", text, p, again)
		}
		if p.account != "" && !isAccount(p.account) {
			t.Fatalf("%q: account %q", text, p.account)
		}
	})
}
