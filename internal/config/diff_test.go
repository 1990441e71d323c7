package config

// Comparing configurations: every kind of change, nothing for what is the same in another order,
// and no secret.

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

// snapshot is a configuration as it is on disk now, with its secrets.
func snapshot(t *testing.T) (*Config, *Secrets) {
	t.Helper()
	c, _, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := ResolveSecrets(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestDiff(t *testing.T) {
	inMain := func(replacements ...string) func(*testing.T) {
		return func(t *testing.T) {
			t.Helper()
			data, err := os.ReadFile("test.yaml")
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer(replacements...).Replace(string(data))
			if text == string(data) {
				t.Fatalf("nothing replaced by %q", replacements)
			}
			testkit.WriteFile(t, "test.yaml", text, 0o644)
		}
	}
	file := func(name, content string) func(*testing.T) {
		return func(t *testing.T) { t.Helper(); testkit.WriteFile(t, name, content, 0o600) }
	}
	const otherSecret = "Zk3qPw8sVt5LmZr0PdFhJ2uGbA7cTeQ1iXoWkS4yRvU9"
	for _, test := range []struct {
		name   string
		change func(*testing.T)
		want   []string // kind key old new, "!" for a restart
	}{
		{"nothing", func(*testing.T) {}, nil},
		{"a default written out", inMain("server: {", "server: {budget: 200ms, "), nil},
		{"order", inMain("[{hsm: hsm-a}, {hsm: hsm-b}]", "[{hsm: hsm-b}, {hsm: hsm-a}]"), nil},
		{"values", inMain("server: {", "log: {level: debug}\nserver: {budget: 150ms, "+
			"max_in_flight: 5, ", "token: hsm-b,", "token: hsm-b, sessions: 3, overrides: "+
			"{mechanism: 0x1088, ambiguous: [5], read_only_sessions: false},"), []string{
			"changed server.budget 200ms 150ms", "changed server.first_request_budget 180ms 150ms",
			"changed server.max_in_flight 1024 5", "changed log.level info debug",
			"changed hsms[hsm-b].sessions 32 3",
			"changed hsms[hsm-b].overrides.mechanism 0x0 0x1088",
			"changed hsms[hsm-b].overrides.read_only_sessions  false",
			"changed hsms[hsm-b].overrides.ambiguous [] [0x5]"}},
		{"restart", inMain("server: {", "health: {metrics: false}\nlog: {format: "+
			"console}\nserver: {listen: \"127.0.0.1:9999\", http2: false, "), []string{
			"changed! server.listen 127.0.0.1:8443 127.0.0.1:9999", "changed! server.http2 true " +
				"false", "changed! health.metrics true false", "changed! log.format json console"}},
		{"listener", inMain("server: {", "server: {listeners: [{listen: \"127.0.0.1:9999\"}], "),
			[]string{"added! server.listeners[127.0.0.1:9999]  "}},
		{"member", inMain("[{hsm: hsm-a}, {hsm: hsm-b}]", "[{hsm: hsm-a, priority: 1}]"),
			[]string{"changed hsm_groups[main].hsms[hsm-a].priority 0 1",
				"removed hsm_groups[main].hsms[hsm-b]  "}},
		{"added", file("key_stores.d/payroll.yaml", strings.Replace(testkit.StoreText("payroll",
			testkit.PayrollKey), "secrets/{name}.key", "../second.key", 1)),
			[]string{"added key_stores[payroll]  "}},
		{"removed", func(t *testing.T) {
			t.Helper()
			err := os.Remove("key_stores.d/tax.yaml")
			if err != nil {
				t.Fatal(err)
			}
		}, []string{"removed key_stores[tax]  "}},
		{"quota", file("key_stores.d/tax.yaml", testkit.StoreText("tax", testkit.TaxKey,
			"quota: {requests_per_second: 5}")),
			[]string{"changed key_stores[tax].quota.requests_per_second 0 5"}},
		{"secret", file("hsm-a.pin", "5678"), []string{"changed hsms[hsm-a].pin [redacted] " +
			"[redacted]"}},
		{"secret from elsewhere", inMain("hsm-a.pin", "third.pin"),
			[]string{"changed hsms[hsm-a].pin DIR/hsm-a.pin DIR/third.pin"}},
		{"secret access key", file("key_stores.d/secrets/tax.key", otherSecret),
			[]string{"changed key_stores[tax].credentials[" +
				testkit.TaxKey + "].secret_access_key [redacted] [redacted]"}},
		{"rotated", file("key_stores.d/tax.yaml", testkit.StoreText("tax", testkit.PayrollKey)),
			[]string{"removed key_stores[tax].credentials[" + testkit.TaxKey + "]  ",
				"added key_stores[tax].credentials[" + testkit.PayrollKey + "]  "}},
		{"policy", file("policies/a.cedar", "@id(\"more\") permit (principal, action, resource);"),
			[]string{"changed key_stores[demo].policy.files [DIR/policies] content changed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := testkit.StoreDir(t)
			err := os.Mkdir("policies", 0o755)
			if err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, "policies/a.cedar", testkit.GoodPolicy, 0o644)
			testkit.WriteFile(t, "second.key", otherSecret, 0o600)
			testkit.WriteFile(t, "third.pin", "1234-a", 0o600)
			inMain("hsm_group: main\n", "hsm_group: main\n    policy: {files: [policies]}\n")(t)
			oldConfig, oldSecrets := snapshot(t)
			test.change(t)
			newConfig, newSecrets := snapshot(t)
			var got []string
			for _, c := range Diff(oldConfig, newConfig, oldSecrets, newSecrets) {
				restart := ""
				if c.Restart {
					restart = "!"
				}
				got = append(
					got,
					strings.ReplaceAll(
						fmt.Sprintf("%s%s %s %s %s", c.Kind, restart, c.Key, c.Old, c.New), dir,
						"DIR",
					),
				)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// Every list of sections has a key by which its elements are known, and the keys of one need not be
// marked twice.
func TestIdentities(t *testing.T) {
	walkSchema(Schema, "", func(s *schema.Setting, path string) {
		if s.List && s.Kind == schema.Section && !IdentityOf(s).Identity {
			t.Errorf("%s: no key is marked as identity", path)
		}
		if s.Fill != "" && fillRules[s.Fill].allowed == nil {
			t.Errorf("%s: there is no rule %q", path, s.Fill)
		}
	})
}

func TestDiffOfThousandIsQuick(t *testing.T) {
	testkit.StoreDir(t)
	testkit.ThousandStores(t)
	old, _, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	replacement, _, err := Load("test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(replacement.KeyStores)
	replacement.KeyStores[17].Quota.Rate = 7
	start := time.Now()
	changes := Diff(old, replacement, nil, nil)
	took := time.Since(start)
	if len(changes) != 1 || took > 5*time.Second {
		t.Errorf("%v after %v", changes, took)
	}
	t.Log(took)
}
