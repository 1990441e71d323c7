package cli

// The metrics of the service: their values, that a thousand key stores are read quickly, and that the alert rules speak of
// metrics that there are.

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/metrics"
	"xks-proxy/internal/testkit"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// fullSources are of one key store, and have something to count everywhere.
func fullSources(t *testing.T) metrics.Sources {
	t.Helper()
	rig := newAdminRig(t)
	a := rig.admin
	a.KeyStores = func() []xks.KeyStoreStatus {
		return []xks.KeyStoreStatus{{
			Name: "finance", Blocked: true, InFlight: 3, PolicyDenials: 4, PolicyShadowDenials: 5,
			Requests:    []xks.RequestCount{{Operation: "Encrypt", Outcome: "ok", Count: 6}, {Operation: "Decrypt", Outcome: "ThrottlingException", Count: 7}},
			Credentials: []xks.CredentialStatus{{AccessKeyID: "OLD", LastUsed: time.Unix(1_800_000_000, 0)}, {AccessKeyID: "NEW"}},
		}}
	}
	a.Handler = func() xks.HandlerStatus {
		return xks.HandlerStatus{
			Refused: []xks.RequestCount{{Operation: "Encrypt", Outcome: "InvalidUriPathException", Count: 8}, {Outcome: "InvalidUriPathException", Count: 1}, {Outcome: "UnsupportedOperationException", Count: 2}},
			Operations: []xks.OperationStatus{{Operation: "Encrypt", Count: 10, Sum: 50 * time.Millisecond,
				Buckets: []xks.Bucket{{UpTo: time.Millisecond, Count: 2}, {UpTo: 10 * time.Millisecond, Count: 9}}}},
		}
	}
	a.Connections = func() api.ConnectionCounts { return api.ConnectionCounts{Open: 11, Refused: 12, CutOff: 13} }
	a.LogState = func() logging.State { return logging.State{Lost: 14, Suppressed: 15, Failing: "disk full"} }
	a.Reloads = &fakeReloads{now: api.ReloadState{Generation: 3, LoadedAt: time.Unix(1_700_000_000, 0), Attempts: 5, Failures: 3, LastError: "no", WaitsForRestart: []string{"server.listen"}}}
	rig.wantSaid(t, 0, "The key store finance is blocked: from now on all its requests are answered InvalidStateException.", "block", "key-store", "finance")
	from := newFakeSources(a.Config)
	from.Besides = func() map[string]int64 {
		return map[string]int64{metrics.ListenerHealth: 16, metrics.ListenerAdmin: 17}
	}
	return from
}

func TestServiceMetrics(t *testing.T) {
	registry := metrics.New(fullSources(t))
	text := testkit.Scrape(t, registry)
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
	lintMetrics(t, registry)
}

// Counters that start to exist with their first event would be invisible to rate() then: where the values are few, all are there
// from the beginning.
func TestServiceMetricsOfAnIdleProxy(t *testing.T) {
	text := testkit.Scrape(t, metrics.New(newFakeSources(newAdminRig(t).admin.Config)))
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
	rig.admin.KeyStores = func() []xks.KeyStoreStatus { return stores }
	registry := metrics.New(newFakeSources(rig.admin.Config))
	start := time.Now()
	text := testkit.Scrape(t, registry)
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := strings.Count(text, "\nxks_proxy_requests_total{"); n != 45_000 {
		t.Errorf("%d series of requests", n)
	}
}

func BenchmarkScrape(b *testing.B) {
	stores := busyStores(1000)
	view := newFakeView(b, zap.NewNop(), new(heldBlocks))
	view.KeyStores = func() []xks.KeyStoreStatus { return stores }
	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.NewServiceCollector(newFakeSources(view)))
	for b.Loop() {
		testkit.Scrape(b, registry)
	}
}

// A proxy that starts has its counters at 0, and no gauge that is not true yet.
func TestMetricsWhileTheProxyStarts(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Groups = func() []*group.Group { return nil }
	rig.admin.KeyStores = func() []xks.KeyStoreStatus { return nil }
	rig.admin.Handler = xks.ZeroHandlerStatus
	rig.admin.Ready = func() string { return "starting" }
	c := rig.admin.Running()
	c.HSMGroups = []config.Group{{Name: "main", HSMs: []config.GroupMember{{HSM: "hsm-a"}, {HSM: "hsm-b"}}}}
	text := testkit.Scrape(t, metrics.New(newFakeSources(rig.admin.Config)))
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

func TestReloadMetrics(t *testing.T) {
	view := newFakeView(t, zap.NewNop(), new(heldBlocks))
	view.Reloads = &fakeReloads{now: api.ReloadState{
		Generation: 3, LoadedAt: time.Unix(1000, 0), Attempts: 2, Failures: 1, LastError: "wrong",
		WaitsForRestart: []string{"server.listen"},
	}}
	text := testkit.Scrape(t, metrics.New(newFakeSources(view)))
	for _, want := range []string{
		"xks_proxy_config_generation 3", "xks_proxy_config_last_reload_success 0",
		"xks_proxy_config_last_load_timestamp_seconds 1000",
		`xks_proxy_config_reloads_total{result="failure"} 1`,
		`xks_proxy_config_reloads_total{result="success"} 1`,
		"xks_proxy_config_waits_for_restart 1",
	} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// Every metric that the registry has and that is ours is in the table of docs/operations.md.
func TestAllMetricsAreDocumented(t *testing.T) {
	text := testkit.ReadFile(t, "../../docs/operations.md")
	families, err := metrics.New(fullSources(t)).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := f.GetName()
		if strings.HasPrefix(name, "xks_") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("%s is not documented", name)
		}
	}
}
