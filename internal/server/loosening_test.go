package server

// What a change of the configuration may let in: every key has been decided on, every rule says
// what it means and nothing else.

import (
	"os"
	"slices"
	"strings"
	"testing"

	"xks-proxy/internal/loosening"
	"xks-proxy/internal/testkit"
)

func TestLoosenings(t *testing.T) {
	const payroll, tax = "key_stores[payroll].", "key_stores[tax-main]."
	inMain := func(replacements ...string) func(*testing.T) {
		return func(t *testing.T) { t.Helper(); testkit.Edit(t, "test.yaml", replacements...) }
	}
	inFile := func(file string, replacements ...string) func(*testing.T) {
		return func(t *testing.T) { t.Helper(); testkit.Edit(t, file, replacements...) }
	}
	remove := func(file string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			err := os.Remove(file)
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	newStore := func(labels, owner string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			testkit.WriteFile(t, "fourth.key", "Bk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9", 0o600)
			testkit.WriteFile(t, "key_stores.d/next.yaml", "hsm_group: main\npath_prefix: /next\nowner: "+owner+"\nkeys: {labels: ["+labels+"]}\n"+
				"credentials: [{access_key_id: XKSTESTACCESSKEYIDNEXTAA, secret_access_key: {file: ../fourth.key}}]\n", 0o644)
		}
	}
	both := func(changes ...func(*testing.T)) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			for _, change := range changes {
				change(t)
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*testing.T)
		want   []string
	}{
		{"nothing", func(*testing.T) {}, nil},
		{"sizes and times", inMain("server:", "log: {level: error}\nserver:\n  budget: 150ms\n  max_in_flight: 5000"), nil},
		{"loosening", inMain("{loosening: confirm}", "{}"), []string{"reload.loosening: was confirm and is warn"}},
		{"serial", inMain(` serial: "1",`, ""), []string{`hsms[hsm-a].serial: was 1 and is not set any more`}},
		{"not confined", inMain(` serial: "1",`, ` serial: "1", confine: {mode: off},`),
			[]string{"hsms[hsm-a].confine.mode: was default and is off"}},
		{"confined strictly", inMain(` serial: "1",`, ` serial: "1", confine: {mode: strict, required: true},`), nil},
		{"token", inMain("required", "ignore"), []string{"hsms[hsm-a].token_initialized: was required and is ignore"}},
		{"lost key", inMain(", lost_key: refuse", ""), []string{"hsm_groups[main].lost_key: was refuse and is encrypt"}},
		{"test key", inMain("lost_key", "test_key: tested, lost_key", "[{hsm: hsm-b}]}", "[{hsm: hsm-b}], test_key: tested}"),
			[]string{"hsm_groups[main].test_key.label: was xks-proxy-test and is tested", "hsm_groups[second].test_key.label: was xks-proxy-test and is tested"}},
		{"an HSM of another group", inMain("[{hsm: hsm-b}]}", "[{hsm: hsm-b}, {hsm: hsm-a}]}"),
			[]string{"hsm_groups[second].hsms[hsm-a]: is new here and was in the group main: " +
				"key stores of this group may reach keys of that one"}},
		{"an HSM of another group, renamed", inMain("name: hsm-a,", "name: one,", "{hsm: hsm-a}, ", "",
			"[{hsm: hsm-b}]}", "[{hsm: hsm-b}, {hsm: one}]}"),
			[]string{"hsm_groups[second].hsms[one]: is new here and was in the group main: " +
				"key stores of this group may reach keys of that one"}},
		{"an HSM more", inMain("hsm_groups:", "  - {name: hsm-c, module: ./module.so, token: hsm-c, "+
			"pin: {file: hsm-b.pin}}\nhsm_groups:", "{hsm: hsm-b}]}", "{hsm: hsm-b}, {hsm: hsm-c}]}"), nil},
		{"two tokens change places", inMain("token: hsm-a", "token: x", "token: hsm-b", "token: hsm-a", "token: x", "token: hsm-b"),
			[]string{"hsms[hsm-a].token: is hsm-b, which the HSM hsm-b had", "hsms[hsm-b].token: is hsm-a, which the HSM hsm-a had"}},
		{"the token of another HSM, by its serial number", inMain("token: hsm-b,", `serial: "1",`),
			[]string{"hsms[hsm-b].serial: is 1, which the HSM hsm-a had"}},
		{"another way to keys, on HSMs with new names", both(
			inMain("name: hsm-a", "name: one", "name: hsm-b", "name: two", "{hsm: hsm-a}, {hsm: hsm-b}",
				"{hsm: one}, {hsm: two}", "[{hsm: hsm-b}]", "[{hsm: two}]"), newStore("payroll-1", "agency")),
			[]string{`key_stores[next]: is new and reaches the key with the label "payroll-1", as key store "payroll" does`}},
		{"another HSM", inMain("[{hsm: hsm-a}, {hsm: hsm-b}]", "[{hsm: hsm-a}]"), nil},
		{"no client certificates", inMain("  client_certificates:\n    ca: clients.pem\n    subjects:\n      - cks.kms.eu-central-1.amazonaws.com\n    usages:\n      - serverAuth\n", ""),
			[]string{"server.client_certificates.ca: client certificates are not asked for any more"}},
		{"subject", inMain("      - cks", "      - more\n      - cks"), []string{`server.client_certificates.subjects: now accepts "more"`}},
		{"another subject", inMain("- cks.kms.eu-central-1.amazonaws.com", "- more"), []string{`server.client_certificates.subjects: now accepts "more"`}},
		{"usage", inMain("- serverAuth", "- any"), []string{`server.client_certificates.usages: now accepts "any"`}},
		{"the default usage", inMain("    usages:\n      - serverAuth\n", ""), []string{`server.client_certificates.usages: now accepts "clientAuth"`}},
		{"another CA in the file", func(t *testing.T) {
			t.Helper()
			data, err := os.ReadFile("clients.pem")
			if err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, "clients.pem", string(data)+testkit.PEM("CERTIFICATE", testkit.NewCA(t, "Other").Raw), 0o644)
		}, []string{
			`server.client_certificates.ca: now accepts client certificates of the CA "CN=Other"`,
			`server.listeners[127.0.0.1:9443].client_certificates.ca: now accepts client certificates of the CA "CN=Other"`,
		}},
		{"the same CA from elsewhere", func(t *testing.T) {
			t.Helper()
			data, err := os.ReadFile("clients.pem")
			if err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, "copy.pem", string(data), 0o644)
			testkit.Edit(t, "test.yaml", "ca: clients.pem", "ca: copy.pem")
		}, nil},
		{"a listener without", inMain("{ca: clients.pem, subjects: [other]}", "{}"),
			[]string{"server.listeners[127.0.0.1:9443].client_certificates.ca: client certificates are not asked for any more"}},
		{"a load balancer", inMain("  listeners:", "  proxy_protocol: {trusted: [10.0.0.0/8]}\n  listeners:"),
			[]string{`server.proxy_protocol.trusted: now accepts "10.0.0.0/8"`}},
		{"a tenant more", newStore(`"next-*"`, "another"), nil},
		{"a tenant less", remove("key_stores.d/tax.yaml"), nil},
		{"another way to keys", newStore(`"pay*-1"`, "agency"), []string{`key_stores[next]: is new and reaches the key with the label "payroll-1", as key store "payroll" does`}},
		{"a way to keys that are free now", both(remove("key_stores.d/tax.yaml"), newStore(`"tax-1"`, "another")),
			[]string{`key_stores[next]: is new and reaches the key with the label "tax-1", as key store "tax-main" does`}},
		{"renamed, with a policy", inFile("key_stores.d/tax.yaml", "tax-main", "records"), []string{"key_stores[records].name: was tax-main and is records, which policies may read"}},
		{"renamed, without rules", inFile("key_stores.d/tax.yaml", "tax-main\npolicy: {files: [../more.cedar]}", "records", "[tax-old]", "[]"), []string{
			`key_stores[records].keys.disabled: no longer has "tax-old"`,
			"key_stores[records].policy.files: there is no policy any more: every request that AWS KMS signs is permitted"}},
		{"renamed and moved", inFile("key_stores.d/tax.yaml", "tax-main", "records", "/tax", "/records"),
			[]string{`key_stores[records]: is new and reaches the key with the label "tax-", as key store "tax-main" does`}},
		{"owner", inMain("owner: agency", "owner: ministry"), []string{payroll + "owner: was agency and is ministry, which policies may read"}},
		{"group", inMain("name: payroll\n    hsm_group: main", "name: payroll\n    hsm_group: second"), []string{payroll + "hsm_group: was main and is second"}},
		{"path", inMain("path_prefix: /payroll", "path_prefix: /wages"), nil},
		{"host", inMain("- xks.example.com", "- xks.example.com\n      - xks.example.org"), []string{payroll + `hosts: now accepts "xks.example.org"`}},
		{"region", inMain("- eu-west-1", "- eu-west-2"), []string{payroll + `regions: now accepts "eu-west-2"`}},
		{"a region less", inMain("      - eu-west-1\n", ""), nil},
		{"any region", inMain("    regions:\n      - eu-central-1\n      - eu-west-1\n", ""), []string{payroll + "regions: is empty now: it accepts any"}},
		{"credential", inMain("- access_key_id: XKSTESTACCESSKEYIDPAYPAY", "- access_key_id: XKSTESTACCESSKEYIDPAYNEW\n        secret_access_key: {file: demo.key}\n      - access_key_id: XKSTESTACCESSKEYIDPAYPAY"),
			[]string{payroll + "credentials[XKSTESTACCESSKEYIDPAYNEW]: is new"}},
		{"wider labels", inMain("- payroll-*", "- pay*"), []string{payroll + `keys.labels: reaches the key with the label "pay", which it did not`}},
		{"all labels", inMain("- payroll-*", `- "payroll*"`), []string{payroll + `keys.labels: reaches the key with the label "payroll", which it did not`}},
		{"narrower labels", inMain("- payroll-*", "- payroll-[a-m]*\n        - payroll-x"), nil},
		{"labels put otherwise", inMain("- payroll-*", `- "payroll-"`+"\n        - payroll-?*\n        - payroll-??"), nil},
		{"template", inMain("keys:\n", "keys:\n      label: \"payroll-{key_id}\"\n"), []string{payroll + "keys.label: was {key_id} and is payroll-{key_id}"}},
		{"disabled", inMain("        - payroll-older\n", ""), []string{payroll + `keys.disabled: no longer has "payroll-older"`}},
		{"disabled more", inMain("- payroll-older", "- payroll-older\n        - payroll-oldest"), nil},
		{"policy", inMain("    policy:\n      files:\n        - policies\n      mode: enforce\n", ""),
			[]string{payroll + "policy.files: there is no policy any more: every request that AWS KMS signs is permitted"}},
		{"shadow", inMain("mode: enforce", "mode: shadow"), []string{payroll + "policy.mode: was enforce and is shadow"}},
		{"a forbid", inFile("more.cedar", "@id(\"bob-decrypts-nothing\")\nforbid (principal == User::\"arn:aws:iam::111122223333:user/Bob\", action == Action::\"Decrypt\", resource);\n", ""),
			[]string{tax + `policy.files: the forbid "bob-decrypts-nothing" (more.cedar:3) is gone`}},
		{"a permit", inFile("policies/a.cedar", "user/Bob", "user/Carol"), []string{payroll + `policy.files: the permit "bob" (a.cedar:2) has changed: it may permit more`}},
		{"a permit less", inFile("policies/a.cedar", `@id("alice") permit (principal == User::"arn:aws:iam::111122223333:user/Alice", action, resource);`, ""), nil},
		{"rate", inMain("requests_per_second: 100", "requests_per_second: 150"), []string{payroll + "quota.requests_per_second: was 100 and is 150"}},
		{"no rate", inMain("      requests_per_second: 100\n      burst: 200\n", "      max_in_flight: 0\n"), []string{
			payroll + "quota.requests_per_second: was 100 and is unlimited", payroll + "quota.burst: was 200 and is unlimited"}},
		{"a burst of a second's worth", inMain("burst: 200", "burst: 0"), nil},
		{"burst", inMain("burst: 200", "burst: 201"), []string{payroll + "quota.burst: was 200 and is 201"}},
		{"integrity", inMain("check: other", "check: same"), []string{payroll + "integrity_check: was other and is same"}},
		{"unblocked", inMain("    blocked: true\n", ""), []string{"key_stores[archive].blocked: was true and is false"}},
		{"secret", func(t *testing.T) {
			t.Helper()
			testkit.WriteFile(t, "demo.key", "Ck3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9", 0o600)
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			testkit.ProtectedDir(t)
			old := mustCompare(t)
			test.change(t)
			var got []string
			for _, one := range loosening.Of(old, mustCompare(t), nil) {
				got = append(got, one.String())
				if !slices.Contains(loosening.Settings(), one.Setting) {
					t.Errorf("%s is not among the settings of the metric", one.Setting)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

// What was not enforced takes no protection away.
func TestLooseningsOfShadow(t *testing.T) {
	testkit.ProtectedDir(t)
	testkit.Edit(t, "test.yaml", "mode: enforce", "mode: shadow")
	old := mustCompare(t)
	testkit.Edit(t, "test.yaml", "    policy:\n      files:\n        - policies\n      mode: shadow\n", "", "owner: agency", "owner: ministry")
	if found := loosening.Of(old, mustCompare(t), nil); len(found) > 0 {
		t.Errorf("%v", found)
	}
}

// A key store that comes back is compared with what it was; one that nobody knows is the next tenant.
func TestLooseningsOfAReturn(t *testing.T) {
	testkit.ProtectedDir(t)
	first := mustCompare(t)
	err := os.Rename("key_stores.d/tax.yaml", "tax.kept")
	if err != nil {
		t.Fatal(err)
	}
	second := mustCompare(t)
	gone := loosening.GoneStores(nil).After(first.Config, second.Config)
	if len(gone) != 1 || gone[0].Config.Name != "tax-main" {
		t.Fatalf("%+v", gone)
	}
	gone = gone.After(second.Config, second.Config)
	err = os.Rename("tax.kept", "key_stores.d/tax.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if found := loosening.Of(second, mustCompare(t), gone); len(found) > 0 {
		t.Errorf("as it was: %v", found)
	}
	testkit.Edit(t, "key_stores.d/tax.yaml", "policy: {files: [../more.cedar]}\n", "")
	third := mustCompare(t)
	found := loosening.Of(second, third, gone)
	if len(found) != 1 || found[0].Key != "key_stores[tax-main].policy.files" {
		t.Errorf("without its policy: %v", found)
	}
	if left := gone.After(second.Config, third.Config); len(left) != 0 {
		t.Errorf("it is back: %+v", left)
	}
}

// Two reloads take keys from one key store and give them to a new one: neither alone is noticed.
func TestLooseningsInTwoSteps(t *testing.T) {
	const newTax = `hsm_group: main
credentials: [{access_key_id: XKSTESTACCESSKEYIDNEXTAA, secret_access_key: {file: ../third.key}}]
path_prefix: /next
keys: {labels: [tax-1]}
owner: another
`
	const tax = "key_stores.d/tax.yaml"
	for name, first := range map[string][]string{
		"fewer labels": {"- tax-*", "- tax-a*"},
		"renamed":      {"name: tax-main", "name: records", "- tax-*", "- records-*"},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.ProtectedDir(t)
			before := mustCompare(t)
			testkit.Edit(t, tax, first...)
			between := mustCompare(t)
			gone := loosening.GoneStores(nil).After(before.Config, between.Config)
			for range 3 { // reloads do not make it more
				gone = gone.After(between.Config, between.Config)
			}
			if len(gone) != 1 {
				t.Fatalf("%d are remembered", len(gone))
			}
			testkit.WriteFile(t, "key_stores.d/next.yaml", newTax, 0o644)
			testkit.Edit(t, tax, "../third.key", "../second.key")
			found := loosening.Of(between, mustCompare(t), gone)
			if len(found) == 0 || !slices.ContainsFunc(found, func(one loosening.Loosening) bool {
				return one.String() == `key_stores[next]: is new and reaches the key with the label `+
					`"tax-1", as key store "tax-main" did`
			}) {
				t.Errorf("%v", found)
			}
		})
	}
}

// What widens, or is put otherwise, leaves nothing to remember.
func TestNothingIsGone(t *testing.T) {
	testkit.ProtectedDir(t)
	before := mustCompare(t)
	testkit.Edit(t, "test.yaml", "- payroll-*", "- pay*", "name: payroll", "name: wages", "blocked: true", "blocked: false")
	testkit.Edit(t, "key_stores.d/tax.yaml", "- tax-*", "- tax-?*\n    - tax-")
	if gone := loosening.GoneStores(nil).After(before.Config, mustCompare(t).Config); len(gone) != 0 {
		t.Errorf("%+v", gone)
	}
}

func TestLooseningsOfAThousandAreQuick(t *testing.T) {
	testkit.StoreDir(t)
	testkit.ThousandStores(t)
	old, replacement := mustCompare(t), mustCompare(t)
	slices.Reverse(replacement.Config.KeyStores)
	replacement.Config.KeyStores[17].Quota.Rate = 0
	replacement.Config.KeyStores[18].Name = "another" // at the same path
	if found := loosening.Of(old, replacement, nil); len(found) != 0 {
		t.Errorf("%v", found)
	}
	replacement.Config.KeyStores[18].PathPrefix = "/another"
	if found := loosening.Of(old, replacement, nil); len(found) != 1 || !strings.Contains(found[0].What, "is new and reaches the key") {
		t.Errorf("%v", found)
	}
}
