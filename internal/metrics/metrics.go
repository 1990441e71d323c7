package metrics

// The metrics of the HSMs (those of the service: service.go): what each is called, what it says and
// where its value is from. All are read from the groups and processes when monitoring asks. Nothing
// is counted here, and no request waits for it. docs/operations.md lists them, which a test checks.

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/fleet"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// metric is one metric of a T: an HSM in its group, a process, a group, a key store, the proxy.
type metric[T any] struct {
	Name   string
	Kind   prometheus.ValueType
	Help   string
	Labels []string           // beside those of T
	Value  func(T) float64    // without Labels
	Each   func(T) []oneValue // with Labels
}

// oneValue is a value with what its labels say.
type oneValue struct {
	Labels []string // as many as the metric has
	Value  float64
}

func sample(value float64, labels ...string) oneValue { return oneValue{labels, value} }

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

// memberMetrics have the labels hsm_group and hsm.
var memberMetrics = []metric[status.Member]{
	{
		Name:  "xks_proxy_hsm_in_service",
		Kind:  gauge,
		Help:  "1 while the HSM gets requests, 0 while it does not.",
		Value: func(m status.Member) float64 { return truth(admin.Serves(m)) },
	},
	{
		Name:   "xks_proxy_hsm_service",
		Kind:   gauge,
		Help:   "1 for the state of service that the HSM is in, 0 for the others.",
		Labels: []string{"state"},
		Each:   func(m status.Member) []oneValue { return oneHot(m.Service, serviceStates) },
	},
	{
		Name:  "xks_proxy_hsm_service_since_timestamp_seconds",
		Kind:  gauge,
		Help:  "Since when the HSM is in that state.",
		Value: func(m status.Member) float64 { return timestamp(m.Since) },
	},
	{
		Name: "xks_proxy_hsm_health",
		Kind: gauge,
		Help: "1 for the health that the last probe found, and that AWS KMS is given; 0 for " +
			"the others.",
		Labels: []string{"status"},
		Each:   func(m status.Member) []oneValue { return oneHot(m.Health.Status, healthStates) },
	},
	{
		Name:  "xks_proxy_hsm_probe_timestamp_seconds",
		Kind:  gauge,
		Help:  "When the last probe ended; 0 before the first.",
		Value: func(m status.Member) float64 { return timestamp(m.Health.Checked) },
	},
	{
		Name:  "xks_proxy_hsm_probe_duration_seconds",
		Kind:  gauge,
		Help:  "How long the last probe's encrypt and decrypt took together.",
		Value: func(m status.Member) float64 { return time.Duration(m.Health.Took).Seconds() },
	},
	{Name: "xks_proxy_hsm_in_flight", Kind: gauge, Help: "Requests that wait for the HSM.",
		Value: func(m status.Member) float64 { return float64(m.InFlight) }},
	{
		Name:  "xks_proxy_hsm_requests_total",
		Kind:  counter,
		Help:  "Attempts of requests on the HSM, second ones included, probes not.",
		Value: func(m status.Member) float64 { return float64(m.Requests) },
	},
	{
		Name:  "xks_proxy_hsm_faults_total",
		Kind:  counter,
		Help:  "Of these, those that failed by a fault of the HSM.",
		Value: func(m status.Member) float64 { return float64(m.Faults) },
	},
	{
		Name:  "xks_proxy_hsm_key_faults_total",
		Kind:  counter,
		Help:  "Attempts that failed because of one key, while the HSM works.",
		Value: func(m status.Member) float64 { return float64(m.KeyFaults) },
	},
	{
		Name: "xks_proxy_hsm_unproven_refusals_total",
		Kind: counter,
		Help: "Ciphertexts that the HSM refused with a code that may also mean that it is busy, " +
			"without proof that they are bad.",
		Value: func(m status.Member) float64 { return float64(m.Unproven) },
	},
	{
		Name: "xks_proxy_hsm_unverified",
		Kind: gauge,
		Help: "1 while the HSM serves keys only after they were compared, because its token or " +
			"its keys have changed.",
		Value: func(m status.Member) float64 { return truth(m.Unverified != "") },
	},
	{
		Name:  "xks_proxy_hsm_slow_total",
		Kind:  counter,
		Help:  "Of these, those without an answer within attempt_timeout.",
		Value: func(m status.Member) float64 { return float64(m.Slow) },
	},
	{
		Name:  "xks_proxy_hsm_trips_total",
		Kind:  counter,
		Help:  "Times the HSM was taken out of service by requests or a probe.",
		Value: func(m status.Member) float64 { return float64(m.Trips) },
	},
	{
		Name:  "xks_proxy_hsm_last_fault_timestamp_seconds",
		Kind:  gauge,
		Help:  "When the HSM last failed a request; 0 if it has not.",
		Value: func(m status.Member) float64 { return timestamp(m.LastFaultAt) },
	},
	{
		Name:  "xks_proxy_hsm_latency_p50_seconds",
		Kind:  gauge,
		Help:  "Time within which half of the recent answers of the HSM came; 0 without any.",
		Value: func(m status.Member) float64 { return time.Duration(m.P50).Seconds() },
	},
	{
		Name:  "xks_proxy_hsm_latency_p99_seconds",
		Kind:  gauge,
		Help:  "Time within which 99 of 100 recent answers of the HSM came; 0 without any.",
		Value: func(m status.Member) float64 { return time.Duration(m.P99).Seconds() },
	},
	{Name: "xks_proxy_hsm_keys", Kind: gauge, Help: "Key labels on the HSM.",
		Value: func(m status.Member) float64 { return float64(m.Keys) }},
	{
		Name:  "xks_proxy_hsm_keys_listed_timestamp_seconds",
		Kind:  gauge,
		Help:  "When the keys of the HSM were last listed; 0 if not since the start.",
		Value: func(m status.Member) float64 { return timestamp(m.KeysListed) },
	},
	{Name: "xks_proxy_hsm_unreadable_objects", Kind: gauge,
		Help:  "Objects that the HSM lists but does not let the proxy read; they are left out.",
		Value: func(m status.Member) float64 { return float64(len(m.Unreadable)) }},
}

// processMetrics have the label hsm.
var processMetrics = []metric[worker.State]{
	{
		Name:  "xks_proxy_hsm_process_up",
		Kind:  gauge,
		Help:  "1 while the process of the HSM runs with the token open.",
		Value: func(s worker.State) float64 { return truth(s.Phase == worker.Running) },
	},
	{
		Name:  "xks_proxy_hsm_process_restarts_total",
		Kind:  counter,
		Help:  "Processes of the HSM started after the first.",
		Value: func(s worker.State) float64 { return float64(s.Restarts) },
	},
	{
		Name:  "xks_proxy_hsm_process_memory_bytes",
		Kind:  gauge,
		Help:  "Memory that the process of the HSM has for itself.",
		Value: func(s worker.State) float64 { return float64(s.Memory) },
	},
	{
		Name:  "xks_proxy_hsm_process_memory_replacements_total",
		Kind:  counter,
		Help:  "Of the restarts, those because the process had more memory than memory_limit_mib.",
		Value: func(s worker.State) float64 { return float64(s.Overgrown) },
	},
	{
		Name:  "xks_proxy_hsm_sessions",
		Kind:  gauge,
		Help:  "PKCS#11 sessions that the process has for requests.",
		Value: func(s worker.State) float64 { return float64(s.Sessions) },
	},
	{Name: "xks_proxy_hsm_sessions_busy", Kind: gauge, Help: "Of these, those with a call in them.",
		Value: func(s worker.State) float64 { return float64(s.Busy) }},
	{
		Name:  "xks_proxy_hsm_sessions_hung",
		Kind:  gauge,
		Help:  "Of these, those whose call has taken longer than hang_timeout.",
		Value: func(s worker.State) float64 { return float64(s.Hung) },
	},
}

// testKeyMetrics have the label hsm. Only HSMs whose test key serve makes have them.
var testKeyMetrics = []metric[*fleet.TestKeyMaker]{
	{
		Name:  "xks_proxy_hsm_test_keys_made_total",
		Kind:  counter,
		Help:  "Test keys that were made on the HSM because it had none (test_key.create).",
		Value: func(m *fleet.TestKeyMaker) float64 { return float64(m.Made.Load()) },
	},
	{
		Name:  "xks_proxy_hsm_test_keys_failed_total",
		Kind:  counter,
		Help:  "Test keys that could not be made on the HSM.",
		Value: func(m *fleet.TestKeyMaker) float64 { return float64(m.Failed.Load()) },
	},
}

// groupMetrics have the label hsm_group.
var groupMetrics = []metric[status.Group]{
	{
		Name:  "xks_proxy_hsm_group_keys",
		Kind:  gauge,
		Help:  "Key labels of the group, all HSMs together.",
		Value: func(g status.Group) float64 { return float64(g.Keys) },
	},
	{
		Name:  "xks_proxy_hsm_group_hedges_total",
		Kind:  counter,
		Help:  "Second attempts because the first was slow.",
		Value: func(g status.Group) float64 { return float64(g.Hedges) },
	},
	{
		Name:  "xks_proxy_hsm_group_hedges_denied_total",
		Kind:  counter,
		Help:  "Second attempts that were not made because hedge_percent was used up.",
		Value: func(g status.Group) float64 { return float64(g.HedgesDenied) },
	},
	{
		Name:  "xks_proxy_hsm_group_retries_total",
		Kind:  counter,
		Help:  "Attempts after a fault, on another HSM or the same.",
		Value: func(g status.Group) float64 { return float64(g.Retries) },
	},
	{
		Name:   "xks_proxy_hsm_group_key_findings",
		Kind:   gauge,
		Help:   "Present differences between the keys of the HSMs, and doubtful keys.",
		Labels: []string{"kind"},
		Each:   findings,
	},
	{
		Name:  "xks_proxy_hsm_group_key_comparisons_total",
		Kind:  counter,
		Help:  "Key versions whose material was compared between the HSMs.",
		Value: func(g status.Group) float64 { return float64(g.CrossChecked) },
	},
	{
		Name:  "xks_proxy_hsm_group_key_comparisons_pending",
		Kind:  gauge,
		Help:  "Key versions that wait for their first comparison.",
		Value: func(g status.Group) float64 { return float64(g.CrossPending) },
	},
}

var (
	serviceStates = []status.Service{
		status.InService,
		status.Returning,
		status.Suspected,
		status.Out,
		status.Drained,
	}
	healthStates = []status.Status{status.Active, status.Degraded, status.Unavailable}
	findingKinds = catalogue.FindingKinds()
)

// oneHot is 1 for the value that holds and 0 for the others, so that each series lives forever.
func oneHot[T ~string](holds T, all []T) []oneValue {
	values := make([]oneValue, 0, len(all))
	for _, state := range all {
		values = append(values, sample(truth(state == holds), labelValue(string(state))))
	}
	return values
}

func findings(g status.Group) []oneValue {
	count := map[catalogue.FindingKind]int{}
	for _, f := range g.Findings {
		count[f.Kind]++
	}
	values := make([]oneValue, 0, len(findingKinds))
	for _, kind := range findingKinds {
		values = append(values, sample(float64(count[kind]), kindValue(kind)))
	}
	return values
}

// labelValue is for queries that need no quotes within quotes: in_service.
func labelValue(s string) string { return strings.ReplaceAll(s, " ", "_") }

// kindValue is a label value in small letters: not_aes_256_everywhere.
func kindValue(kind catalogue.FindingKind) string {
	return strings.ToLower(strings.ReplaceAll(labelValue(string(kind)), "-", "_"))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// timestamp is Unix time in seconds; 0 for the zero time.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
