package cli

// The metrics: what monitoring gets, that it is sound, and that the documentation
// lists all of it.

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"xks-proxy/internal/metrics"
	"xks-proxy/internal/testkit"
)

func TestMetrics(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	registry := metrics.New(newFakeSources(rig.admin.Config))
	err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP xks_proxy_hsm_in_service 1 while the HSM gets requests, 0 while it does not.
# TYPE xks_proxy_hsm_in_service gauge
xks_proxy_hsm_in_service{hsm="hsm-a",hsm_group="main"} 0
xks_proxy_hsm_in_service{hsm="hsm-b",hsm_group="main"} 1
xks_proxy_hsm_in_service{hsm="hsm-b",hsm_group="other"} 1
xks_proxy_hsm_in_service{hsm="hsm-c",hsm_group="other"} 1
# HELP xks_proxy_hsm_process_up 1 while the process of the HSM runs with the token open.
# TYPE xks_proxy_hsm_process_up gauge
xks_proxy_hsm_process_up{hsm="hsm-a"} 1
xks_proxy_hsm_process_up{hsm="hsm-b"} 1
xks_proxy_hsm_process_up{hsm="hsm-c"} 1
`), "xks_proxy_hsm_in_service", "xks_proxy_hsm_process_up")
	if err != nil {
		t.Error(err)
	}
	text := testkit.Scrape(t, registry)
	for _, want := range []string{
		`xks_proxy_hsm_service{hsm="hsm-a",hsm_group="main",state="drained"} 1`,
		`xks_proxy_hsm_service{hsm="hsm-a",hsm_group="main",state="in_service"} 0`,
		`xks_proxy_hsm_health{hsm="hsm-c",hsm_group="other",status="ACTIVE"} 1`,
		`xks_proxy_hsm_latency_p99_seconds{hsm="hsm-b",hsm_group="main"} `,
		`xks_proxy_hsm_group_key_findings{hsm_group="other",kind="key_material_differs"} 0`,
		`xks_proxy_hsm_group_key_findings{hsm_group="main",kind="not_aes_256_everywhere"} 0`,
		`xks_proxy_hsm_group_keys{hsm_group="main"} 2`,
		`xks_proxy_build_info{version="`, "\ngo_goroutines ", "\nprocess_open_fds ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	lintMetrics(t, registry)
}

// lintMetrics wants names and help texts as Prometheus recommends them, but for Go's own metrics.
func lintMetrics(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
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
