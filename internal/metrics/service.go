package metrics

// The metrics of the service: key stores, credentials, blocks, connections. Like those of
// the HSMs they are read when monitoring asks.

import (
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/pkg/xks"
	"xks-proxy/pkg/xks/listener"
)

const (
	keyStoreLabel = "key_store"
	durationLabel = "operation"
	durationName  = "xks_proxy_request_duration_seconds"
	durationHelp  = "Time from the first byte of a request to its answer, all key stores together."
)

// storeMetrics have the label key_store.
var storeMetrics = []metric[xks.KeyStoreStatus]{
	{
		Name: "xks_proxy_requests_total",
		Kind: counter,
		Help: "Requests answered, by outcome: ok or the error's name, " +
			"AuthenticationFailedException included.",
		Labels: []string{"operation", "outcome"},
		Each:   requestCounts,
	},
	{
		Name:  "xks_proxy_requests_in_flight",
		Kind:  gauge,
		Help:  "Authenticated requests that are being worked on.",
		Value: func(k xks.KeyStoreStatus) float64 { return float64(k.InFlight) },
	},
	{
		Name:   "xks_proxy_policy_denials_total",
		Kind:   counter,
		Help:   "Requests that the policies denied (enforce), or would have denied (shadow).",
		Labels: []string{"mode"},
		Each: func(k xks.KeyStoreStatus) []oneValue {
			return []oneValue{
				sample(float64(k.PolicyDenials), "enforce"),
				sample(float64(k.PolicyShadowDenials), "shadow"),
			}
		},
	},
	{
		Name:  "xks_proxy_key_store_blocked",
		Kind:  gauge,
		Help:  "1 while the key store as a whole is blocked, by the configuration or an operator.",
		Value: func(k xks.KeyStoreStatus) float64 { return truth(k.Blocked) },
	},
	{
		Name:   "xks_proxy_credential_last_used_timestamp_seconds",
		Kind:   gauge,
		Help:   "When the credential last signed an accepted request; 0 if that is not known.",
		Labels: []string{"access_key_id"},
		Each:   credentialTimes,
	},
}

func requestCounts(k xks.KeyStoreStatus) []oneValue {
	values := make([]oneValue, 0, len(k.Requests))
	for _, r := range k.Requests {
		values = append(values, sample(float64(r.Count), r.Operation, r.Outcome))
	}
	return values
}

func credentialTimes(k xks.KeyStoreStatus) []oneValue {
	values := make([]oneValue, 0, len(k.Credentials))
	for _, c := range k.Credentials {
		values = append(values, sample(timestamp(c.LastUsed), c.AccessKeyID))
	}
	return values
}

// proxyFigures is what belongs to no key store and no HSM.
type proxyFigures struct {
	handler     xks.HandlerStatus
	connections api.ConnectionCounts
	blocks      map[string]int // by kind
	unsaved     bool
	log         logging.State
	besides     map[string]int64 // connections closed, by listener beside the HTTPS ports
	confinement []fleet.ConfinementStatus
	refused     int64 // orders of descendants
	ready       bool
}

// The kinds of blocks.
const (
	kindKeyStore = "key_store"
	kindKey      = "key"
)

func figuresOf(from Sources) proxyFigures {
	f := proxyFigures{
		handler: from.Handler(), connections: from.Connections(), log: from.LogState(),
		besides: from.Besides(), confinement: from.Confinement(), refused: from.Refused(),
		ready:  from.Ready() == api.ReadyVerdict,
		blocks: map[string]int{kindKeyStore: 0, kindKey: 0},
	}
	blocks, unsaved := from.Kill.Look()
	f.unsaved = unsaved != nil
	for _, b := range blocks {
		if b.Key == "" {
			f.blocks[kindKeyStore]++
		} else {
			f.blocks[kindKey]++
		}
	}
	return f
}

// proxyMetrics have only the labels that each of them names.
var proxyMetrics = []metric[proxyFigures]{
	{Name: "xks_proxy_hsm_confined", Kind: gauge, Labels: []string{hsmLabel}, Each: confined,
		Help: "1 while the process of the HSM is confined as it should be, 0 if the kernel " +
			"cannot, " +
			"if confine.mode is off, or if it needs a restart."},
	{Name: "xks_proxy_admin_refused_total", Kind: counter,
		Help: "Orders over the admin socket refused because they came from a process that " +
			"descends " +
			"from the proxy.",
		Value: func(f proxyFigures) float64 { return float64(f.refused) }},
	{
		Name: "xks_proxy_ready",
		Kind: gauge,
		Help: "1 while the proxy is ready, as /healthz/ready says; 0 while it starts, drains, " +
			"or no HSM can serve.",
		Value: func(f proxyFigures) float64 { return truth(f.ready) },
	},
	{
		Name: "xks_proxy_refused_requests_total",
		Kind: counter,
		Help: "Requests of no key store, by outcome: unknown paths and methods, and what else " +
			"was refused before a key store was known.",
		Labels: []string{"outcome"},
		Each:   refusals,
	},
	{
		Name:   "xks_proxy_blocks",
		Kind:   gauge,
		Help:   "Blocks of operators in effect.",
		Labels: []string{"kind"},
		Each: func(f proxyFigures) []oneValue {
			return []oneValue{
				sample(float64(f.blocks[kindKey]), kindKey),
				sample(float64(f.blocks[kindKeyStore]), kindKeyStore),
			}
		},
	},
	{
		Name: "xks_proxy_blocks_unsaved",
		Kind: gauge,
		Help: "1 while the blocks in effect would not survive a restart, because their file " +
			"could not be written.",
		Value: func(f proxyFigures) float64 { return truth(f.unsaved) },
	},
	{Name: "xks_proxy_connections_open", Kind: gauge, Help: "Connections open on the HTTPS ports.",
		Value: func(f proxyFigures) float64 { return float64(f.connections.Open) }},
	{
		Name:  "xks_proxy_connections_refused_total",
		Kind:  counter,
		Help:  "Connections closed because there were too many.",
		Value: func(f proxyFigures) float64 { return float64(f.connections.Refused) },
	},
	{
		Name: "xks_proxy_connections_cut_off_total",
		Kind: counter,
		Help: "Connections closed because too many were busy on which no request had been " +
			"authenticated.",
		Value: func(f proxyFigures) float64 { return float64(f.connections.CutOff) },
	},
	{Name: "xks_proxy_proxy_protocol_connections_total", Kind: counter,
		Help: "Connections by what their PROXY protocol header came to: client and local are " +
			"served, missing, invalid, slow and untrusted are closed.",
		Labels: []string{"outcome"}, Each: proxyHeaders},
	{Name: "xks_proxy_other_connections_closed_total", Kind: counter,
		Help: "Connections of the health port, the admin socket and the metrics listener closed " +
			"because there were too many.",
		Labels: []string{"listener"},
		Each: func(f proxyFigures) []oneValue {
			var values []oneValue
			for _, listener := range []string{ListenerAdmin, ListenerHealth, ListenerMetrics} {
				values = append(values, sample(float64(f.besides[listener]), listener))
			}
			return values
		}},
	{
		Name:  "xks_proxy_log_lines_lost_total",
		Kind:  counter,
		Help:  "Lines of the log that were lost because it could not be written.",
		Value: func(f proxyFigures) float64 { return float64(f.log.Lost) },
	},
	{Name: "xks_proxy_log_failing", Kind: gauge, Help: "1 while the log cannot be written.",
		Value: func(f proxyFigures) float64 { return truth(f.log.Failing != "") }},
	{
		Name: "xks_proxy_log_lines_suppressed_total",
		Kind: counter,
		Help: "Lines about requests that nobody authenticated that were only counted " +
			"(log.unauthenticated_per_second).",
		Value: func(f proxyFigures) float64 { return float64(f.log.Suppressed) },
	},
}

func confined(f proxyFigures) []oneValue {
	values := make([]oneValue, 0, len(f.confinement))
	for _, c := range f.confinement {
		values = append(values, sample(truth(c.State == fleet.ConfinedWholly && !c.Stale), c.HSM))
	}
	return values
}

func refusals(f proxyFigures) []oneValue {
	count := map[string]uint64{}
	var order []string
	for _, r := range f.handler.Refused {
		if _, known := count[r.Outcome]; !known {
			order = append(order, r.Outcome)
		}
		count[r.Outcome] += r.Count
	}
	values := make([]oneValue, 0, len(order))
	for _, outcome := range order {
		values = append(values, sample(float64(count[outcome]), outcome))
	}
	return values
}

// proxyHeaders are the connections by what their PROXY header came to.
func proxyHeaders(f proxyFigures) []oneValue {
	values := make([]oneValue, 0, len(listener.HeaderOutcomes))
	for _, outcome := range listener.HeaderOutcomes {
		values = append(values, sample(float64(f.connections.Headers[outcome]), string(outcome)))
	}
	return values
}

// The listeners beside the HTTPS ports, as they are called in metrics.
const (
	ListenerHealth  = "health"
	ListenerAdmin   = "admin"
	ListenerMetrics = "metrics"
)
