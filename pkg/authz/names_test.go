package authz

// Names that only the configuration knows, and sets that permit nothing.

import (
	"slices"
	"strings"
	"testing"
)

func testNames() Names {
	return Names{
		KeyStores: []string{"agency-payroll", "agency-backup"}, Owners: []string{"agency"},
		Key: func(_, id string) string {
			if strings.HasPrefix(id, "payroll-") {
				return ""
			}
			return "its label matches none of keys.labels"
		},
	}
}

func TestUnknownNames(t *testing.T) {
	const all = "permit (principal, action, resource);\n"
	for _, test := range []struct{ policy, want string }{
		{`permit (principal, action, resource in KeyStore::"agency-payrol");`,
			`error 2:50 there is no key store "agency-payrol" in the configuration (did you mean agency-payroll?)`},
		{`permit (principal, action, resource) when { resource in KeyStore::"hr" };`,
			`error 2:67 there is no key store "hr" in the configuration; it has agency-payroll, agency-backup`},
		{`permit (principal, action, resource) when { [KeyStore::"agency-backup", KeyStore::"hr"].contains(resource) };`, ""}, // not Cedar's types
		{`permit (principal, action, resource) when { resource in [KeyStore::"agency-backup", KeyStore::"hr"] };`,
			`error 2:95 there is no key store "hr" in the configuration; it has agency-payroll, agency-backup`},
		{`permit (principal, action, resource) when { resource.keyStore == "hr" };`,
			`error 2:66 there is no key store "hr" in the configuration; it has agency-payroll, agency-backup`},
		{`forbid (principal, action, resource) when { resource == Key::"agency-payroll/wages-1" };`,
			`error 2:62 the key store agency-payroll cannot have a key "wages-1": its label matches none of keys.labels`},
		{`permit (principal, action, resource == Key::"agency-payroll/payroll-1");`, ""},
		{`permit (principal, action, resource is Key in KeyStore::"agency-backup");`, ""},
		{`permit (principal, action, resource) when { resource has owner && resource.owner == "agenzy" };`,
			`warning 2:85 no key store has the owner "agenzy" (did you mean agency?)`},
	} {
		p, _, err := Parse("t.cedar", []byte(all+test.policy))
		if err != nil {
			if test.want != "" {
				t.Errorf("%s: %v", test.policy, err)
			}
			continue
		}
		errors, warnings := p.CheckNames(testNames())
		var got []string
		for kind, problems := range map[string][]Problem{"error": errors, "warning": warnings} {
			for _, one := range problems {
				_, place, _ := strings.Cut(one.Error(), ":")
				place, text, _ := strings.Cut(place, ": policy \"t.cedar:2\": ")
				got = append(got, kind+" "+place+" "+text)
			}
		}
		if strings.Join(got, "\n") != test.want {
			t.Errorf("%s\n got %q\nwant %q", test.policy, got, test.want)
		}
	}
}

func TestPermits(t *testing.T) {
	const other = "permit (principal, action, resource in KeyStore::\"other\");\n"
	for _, test := range []struct {
		policy string
		want   bool
	}{
		{"", false},
		{`permit (principal, action, resource in KeyStore::"agency");`, true},
		{`permit (principal, action, resource == Key::"agency/k");`, true},
		{`permit (principal, action, resource == Key::"agency-2/k");`, false},
		{`permit (principal, action == Action::"Decrypt", resource);`, true},
		{`permit (principal, action, resource) when { false };`, false},
		{`permit (principal, action, resource) unless { true };`, false},
		{`permit (principal, action, resource) when { context.hour == 3 } when { false };`, false},
		{`permit (principal, action, resource); @id("no") forbid (principal, action, resource in KeyStore::"agency");`, false},
		{`permit (principal, action, resource); @id("no") forbid (principal, action, resource == Key::"agency/k");`, true},
		{`permit (principal, action, resource); @id("no") forbid (principal, action == Action::"Encrypt", resource);`, true},
		{`permit (principal, action, resource); @id("no") forbid (principal is User, action, resource);`, true},
		{`permit (principal, action, resource); @id("no") forbid (principal, action, resource in KeyStore::"agency") when { context.hour == 3 };`, true},
		{`permit (principal, action, resource); @id("no") forbid (principal, action, resource in KeyStore::"agency") when { true };`, false},
	} {
		p := mustParse(t, other+test.policy)
		if got := p.Permits("agency"); got != test.want {
			t.Errorf("%s: %v", test.policy, got)
		}
	}
}

// Values that attributes never have.
func TestImpossibleValues(t *testing.T) {
	for _, test := range []struct{ condition, want string }{
		{`context.hour == 24`, "context.hour is never 24: it is 0 to 23"},
		{`context.weekday != 0`, "context.weekday is never 0: it is 1 to 7"},
		{`context has vpce && context.vpce == "vpc-1"`, `context.vpce is never "vpc-1": it is an id that begins with vpce-`},
		{`context has viaServiceName && context.viaServiceName == "rds.eu-west-1.amazonaws.com"`,
			`context.viaServiceName is never "rds.eu-west-1.amazonaws.com": it is the first label only, such as rds; the whole is context.viaService`},
		{`context.kmsKeyAccount == "1111-2222-3333"`, `context.kmsKeyAccount is never "1111-2222-3333": it is 12 digits`},
		{`["Encrypt", "Decript"].contains(context.operation)`, `AWS KMS sends no kmsOperation "Decript" today (did you mean Decrypt?)`},
		{`resource.id == "agency/k"`, `resource.id is never "agency/k": it is an external key id, without the key store`},
		{`context.hour == 23 && context.region == "eu-west-1"`, ""},
	} {
		_, warnings, err := Parse("t.cedar", []byte(
			"permit (principal, action == Action::\"GetKeyMetadata\", resource);\n"+
				"permit (principal, action in [Action::\"Encrypt\", Action::\"Decrypt\"], resource) when { "+test.condition+" };"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, one := range warnings {
			got = append(got, one.Text)
		}
		if want := []string{test.want}; !slices.Equal(got, want) &&
			(test.want != "" || len(got) > 0) {
			t.Errorf("%s: %q", test.condition, got)
		}
	}
}
