package main

// The metrics: what monitoring gets, that it is sound, and that the documentation
// lists all of it.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	registry := newMetrics(newFakeSources(rig.admin.serviceConfig))
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
	text := scrape(t, registry)
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

func scrape(t testing.TB, registry *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, metricsPath, nil))
	body, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d: %v", w.Code, err)
	}
	return string(body)
}

// The plain listener has the metrics if they are wanted; what HTTPS serves of it never has.
func TestMetricsPath(t *testing.T) {
	rig := newAdminRig(t)
	get := func(handler http.Handler, path string) int {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		handler.ServeHTTP(w, r)
		return w.Code
	}
	h := newHealth(rig.admin.groups)
	h.serving.Store(true)
	c := &config{}
	metrics := metricsHandler(newFakeSources(rig.admin.serviceConfig))
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	for _, on := range []bool{true, false} {
		c.Health.Metrics = on
		want := map[bool]int{true: http.StatusOK, false: http.StatusNotFound}[on]
		if got := get(h.plain(c, metrics), metricsPath); got != want {
			t.Errorf("metrics %t: %d, want %d", on, got, want)
		}
		for _, path := range []string{livePath, readyPath} {
			if got := get(h.plain(c, metrics), path); got != http.StatusOK {
				t.Errorf("%s beside metrics %t: %d", path, on, got)
			}
		}
	}
	if got := get(h.before(refuse), metricsPath); got != http.StatusTeapot {
		t.Errorf("HTTPS serves the metrics: %d", got)
	}
}

const (
	operations   = "../../docs/operations.md"
	metricsBegin = "<!-- metrics: a test of cmd/xks-proxy writes this table -->\n"
	metricsEnd   = "<!-- end of metrics -->\n"
)

func TestMetricsAreDocumented(t *testing.T) {
	text := readFile(t, operations)
	head, rest, begins := strings.Cut(text, metricsBegin)
	_, tail, ends := strings.Cut(rest, metricsEnd)
	if !begins || !ends {
		t.Fatalf("%s lacks the marks around the table of metrics", operations)
	}
	want := head + metricsBegin + metricsTable() + metricsEnd + tail
	if *update && text != want {
		err := os.WriteFile(operations, []byte(want), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		text = want
	}
	if text != want {
		t.Errorf("%s has another table of metrics than the program (go test -update writes it):\n%s", operations, metricsTable())
	}
	// Every metric that the registry has and that is ours is in the table.
	families, err := newMetrics(fullSources(t)).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if name := f.GetName(); strings.HasPrefix(name, "xks_") && !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("%s is not documented", name)
		}
	}
}

func metricsTable() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	writeMetrics(&b, storeMetrics, keyStoreLabel)
	writeMetrics(&b, proxyMetrics)
	fmt.Fprintf(&b, "| `%s` | histogram | `%s` | %s |\n", durationName, durationLabel, durationHelp)
	writeMetrics(&b, memberMetrics, groupLabel, hsmLabel)
	writeMetrics(&b, processMetrics, hsmLabel)
	writeMetrics(&b, testKeyMetrics, hsmLabel)
	writeMetrics(&b, groupMetrics, groupLabel)
	writeMetrics(&b, reloadMetrics)
	writeMetrics(&b, certificateMetrics, keyStoreLabel, certificateLabel, useLabel)
	writeMetrics(&b, handshakeMetrics)
	writeMetrics(&b, refusalMetrics)
	fmt.Fprintf(&b, "| `%s` | gauge | `%s` | %s |\n", buildInfoName, buildInfoLabel, buildInfoHelp)
	return b.String()
}

func writeMetrics[T any](b *strings.Builder, metrics []metric[T], labels ...string) {
	for _, m := range metrics {
		names := ""
		if all := slices.Concat(labels, m.Labels); len(all) > 0 {
			names = "`" + strings.Join(all, "`, `") + "`"
		}
		kind := map[prometheus.ValueType]string{counter: "counter", gauge: "gauge"}[m.Kind]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", m.Name, kind, names, m.Help)
	}
}
