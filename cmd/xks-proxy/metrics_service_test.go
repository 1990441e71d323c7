package main

// The metrics of the service: their values, that a thousand key stores are read quickly, and that the alert rules speak of
// metrics that there are.

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"

	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// fullSources are of one key store, and have something to count everywhere.
func fullSources(t *testing.T) metricSources {
	t.Helper()
	rig := newAdminRig(t)
	a := rig.admin
	a.keyStores = func() []xks.KeyStoreStatus {
		return []xks.KeyStoreStatus{{
			Name: "finance", Blocked: true, InFlight: 3, PolicyDenials: 4, PolicyShadowDenials: 5,
			Requests:    []xks.RequestCount{{Operation: "Encrypt", Outcome: "ok", Count: 6}, {Operation: "Decrypt", Outcome: "ThrottlingException", Count: 7}},
			Credentials: []xks.CredentialStatus{{AccessKeyID: "OLD", LastUsed: time.Unix(1_800_000_000, 0)}, {AccessKeyID: "NEW"}},
		}}
	}
	a.handler = func() xks.HandlerStatus {
		return xks.HandlerStatus{
			Refused: []xks.RequestCount{{Operation: "Encrypt", Outcome: "InvalidUriPathException", Count: 8}, {Outcome: "InvalidUriPathException", Count: 1}, {Outcome: "UnsupportedOperationException", Count: 2}},
			Operations: []xks.OperationStatus{{Operation: "Encrypt", Count: 10, Sum: 50 * time.Millisecond,
				Buckets: []xks.Bucket{{UpTo: time.Millisecond, Count: 2}, {UpTo: 10 * time.Millisecond, Count: 9}}}},
		}
	}
	a.connections = func() connectionCounts { return connectionCounts{Open: 11, Refused: 12, CutOff: 13} }
	a.logState = func() logState { return logState{Lost: 14, Suppressed: 15, Failing: "disk full"} }
	a.reloads = &fakeReloads{now: reloadState{Generation: 3, LoadedAt: time.Unix(1_700_000_000, 0), Attempts: 5, Failures: 3, LastError: "no", WaitsForRestart: []string{"server.listen"}}}
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "finance")
	from := newFakeSources(a.serviceConfig)
	from.besides = func() map[string]int64 {
		return map[string]int64{listenerHealth: 16, listenerAdmin: 17}
	}
	return from
}

func TestServiceMetrics(t *testing.T) {
	registry := newMetrics(fullSources(t))
	text := scrape(t, registry)
	for _, want := range []string{
		`xks_proxy_requests_total{key_store="finance",operation="Encrypt",outcome="ok"} 6`,
		`xks_proxy_requests_total{key_store="finance",operation="Decrypt",outcome="ThrottlingException"} 7`,
		`xks_proxy_requests_in_flight{key_store="finance"} 3`,
		`xks_proxy_policy_denials_total{key_store="finance",mode="enforce"} 4`,
		`xks_proxy_policy_denials_total{key_store="finance",mode="shadow"} 5`,
		`xks_proxy_key_store_blocked{key_store="finance"} 1`,
		`xks_proxy_credential_last_used_timestamp_seconds{access_key_id="OLD",key_store="finance"} 1.8e+09`,
		`xks_proxy_credential_last_used_timestamp_seconds{access_key_id="NEW",key_store="finance"} 0`,
		`xks_proxy_refused_requests_total{outcome="InvalidUriPathException"} 9`,
		`xks_proxy_refused_requests_total{outcome="UnsupportedOperationException"} 2`,
		`xks_proxy_request_duration_seconds_bucket{operation="Encrypt",le="0.001"} 2`,
		`xks_proxy_request_duration_seconds_bucket{operation="Encrypt",le="0.01"} 9`,
		`xks_proxy_request_duration_seconds_bucket{operation="Encrypt",le="+Inf"} 10`,
		`xks_proxy_request_duration_seconds_sum{operation="Encrypt"} 0.05`,
		`xks_proxy_blocks{kind="key_store"} 1`, `xks_proxy_blocks{kind="key"} 0`, "\nxks_proxy_blocks_unsaved 0",
		"\nxks_proxy_connections_open 11", "\nxks_proxy_connections_refused_total 12", "\nxks_proxy_connections_cut_off_total 13",
		"\nxks_proxy_log_lines_lost_total 14", "\nxks_proxy_log_lines_suppressed_total 15", "\nxks_proxy_log_failing 1",
		`xks_proxy_other_connections_closed_total{listener="health"} 16`, `xks_proxy_other_connections_closed_total{listener="admin"} 17`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	problems, err := testutil.GatherAndLint(registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if !strings.HasPrefix(p.Metric, "go_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Counters that start to exist with their first event would be invisible to rate() then: where the values are few, all are there
// from the beginning.
func TestServiceMetricsOfAnIdleProxy(t *testing.T) {
	text := scrape(t, newMetrics(newFakeSources(newAdminRig(t).admin.serviceConfig)))
	for _, want := range []string{`xks_proxy_blocks{kind="key"} 0`, `xks_proxy_blocks{kind="key_store"} 0`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// A thousand key stores with twenty outcomes each are read in a moment. The limit is for a busy machine under the race detector;
// BenchmarkScrape has the figure.
func TestScrapeOfAThousandKeyStores(t *testing.T) {
	rig := newAdminRig(t)
	stores := busyStores(1000)
	rig.admin.keyStores = func() []xks.KeyStoreStatus { return stores }
	registry := newMetrics(newFakeSources(rig.admin.serviceConfig))
	start := time.Now()
	text := scrape(t, registry)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := strings.Count(text, "\nxks_proxy_requests_total{"); n != 45_000 {
		t.Errorf("%d series of requests", n)
	}
}

func BenchmarkScrape(b *testing.B) {
	stores := busyStores(1000)
	view := newFakeView(b, zap.NewNop())
	view.keyStores = func() []xks.KeyStoreStatus { return stores }
	registry := prometheus.NewRegistry()
	registry.MustRegister(newServiceCollector(newFakeSources(view)))
	for b.Loop() {
		scrape(b, registry)
	}
}

// A proxy that starts has its counters at 0, and no gauge that is not true yet.
func TestMetricsWhileTheProxyStarts(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.groups = func() []*group.Group { return nil }
	rig.admin.keyStores = func() []xks.KeyStoreStatus { return nil }
	rig.admin.handler = xks.NothingServed
	rig.admin.ready = func() string { return "starting" }
	c := rig.admin.config()
	c.HSMGroups = []hsmGroupConfig{{Name: "main", HSMs: []groupMemberConfig{{HSM: "hsm-a"}, {HSM: "hsm-b"}}}}
	text := scrape(t, newMetrics(newFakeSources(rig.admin.serviceConfig)))
	for _, want := range []string{
		`xks_proxy_requests_total{key_store="payroll",operation="Decrypt",outcome="AuthenticationFailedException"} 0`,
		`xks_proxy_policy_denials_total{key_store="payroll",mode="enforce"} 0`,
		`xks_proxy_hsm_unproven_refusals_total{hsm="hsm-b",hsm_group="main"} 0`,
		`xks_proxy_hsm_group_hedges_denied_total{hsm_group="main"} 0`,
		`xks_proxy_refused_requests_total{outcome="InvalidUriPathException"} 0`,
		`xks_proxy_request_duration_seconds_count{operation="Decrypt"} 0`,
		"xks_proxy_ready 0",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	for _, gone := range []string{"xks_proxy_hsm_in_service{", "xks_proxy_hsm_health{", "xks_proxy_key_store_blocked{"} {
		if strings.Contains(text, gone) {
			t.Errorf("%s is told before it is known", gone)
		}
	}
}

// Each kind of difference between keys has one rule, apart from those that do not matter.
func TestAlertsOnKeyFindings(t *testing.T) {
	rules := readFile(t, alertRules)
	grave := regexp.MustCompile(`kind=~"([a-z_|]+)"`).FindStringSubmatch(rules)
	others := regexp.MustCompile(`kind!~"([a-z_|]+)"`).FindStringSubmatch(rules)
	if grave == nil || others == nil {
		t.Fatal("the rules on findings are not found")
	}
	var dangers, minor []string
	for _, kind := range catalogue.FindingKinds() {
		switch {
		case slices.Contains(dangerousFindings, kind):
			dangers = append(dangers, kindValue(kind))
		case kind.Severity() == catalogue.Minor:
			minor = append(minor, kindValue(kind))
		}
	}
	sorted := func(s []string) string { return strings.Join(slices.Sorted(slices.Values(s)), "|") }
	if got := sorted(strings.Split(grave[1], "|")); got != sorted(dangers) {
		t.Errorf("critical are %s, want %s", got, sorted(dangers))
	}
	if got, want := sorted(strings.Split(others[1], "|")), sorted(slices.Concat(dangers, minor)); got != want {
		t.Errorf("not warned of are %s, want %s", got, want)
	}
}

const alertRules = "../../configs/alerts.yaml"

// The rules can be read, say what they should, and name only metrics that there are.
func TestAlertRules(t *testing.T) {
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(readFile(t, alertRules)))
	decoder.KnownFields(true)
	err := decoder.Decode(&file)
	if err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) < 5 {
		t.Fatalf("%v, %+v", err, file)
	}
	known := map[string]bool{durationName + "_bucket": true, durationName + "_sum": true, durationName + "_count": true}
	labels := map[string]bool{"instance": true, "le": true, "job": true}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (\\w+) \\| (.*?) \\|").FindAllStringSubmatch(metricsTable(), -1) {
		known[row[1]] = row[2] != "histogram"
		for _, label := range strings.Split(strings.ReplaceAll(row[3], "`", ""), ", ") {
			labels[label] = true
		}
	}
	name := regexp.MustCompile(`\bxks_[a-z0-9_]+`)
	used := regexp.MustCompile(`\bby \(([a-z_, ]+)\)|([a-z_]+)=~?"|\$labels\.([a-z_]+)`)
	manual := readFile(t, operations)
	seen := map[string]bool{}
	for _, rule := range file.Groups[0].Rules {
		text := fmt.Sprint(rule.Expr, rule.Annotations)
		names := name.FindAllString(text, -1)
		if len(names) == 0 && !strings.HasPrefix(rule.Expr, "up{") {
			t.Errorf("%s is about no metric of ours", rule.Alert)
		}
		for _, one := range names {
			if !known[one] {
				t.Errorf("%s: there is no metric %s", rule.Alert, one)
			}
		}
		for _, match := range used.FindAllStringSubmatch(text, -1) {
			for _, label := range strings.Split(match[1]+match[2]+match[3], ", ") {
				if !labels[label] {
					t.Errorf("%s: no metric has the label %s", rule.Alert, label)
				}
			}
		}
		if rule.For != "" {
			_, err := time.ParseDuration(rule.For)
			if err != nil {
				t.Errorf("%s: for: %v", rule.Alert, err)
			}
		}
		if seen[rule.Alert] || rule.Alert == "" || rule.Annotations["summary"] == "" || !slices.Contains(severities, severity(rule.Labels["severity"])) || strings.Count(rule.Expr, "(") != strings.Count(rule.Expr, ")") {
			t.Errorf("%+v is not complete", rule)
		}
		seen[rule.Alert] = true
		want := "docs/operations.md#" + strings.ToLower(rule.Alert)
		if rule.Annotations["runbook"] != want || !strings.Contains(manual, "\n### "+rule.Alert+"\n") {
			t.Errorf("%s: the runbook is %q, want %q and a section of that name", rule.Alert, rule.Annotations["runbook"], want)
		}
	}
}
