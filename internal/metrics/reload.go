package metrics

// The metrics of reloads.

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/loosening"
)

// looseningSettings are read from the schema once, and not for each scrape.
var looseningSettings = loosening.Settings()

// LooseningCounts has a value for every key that can loosen, from the start.
func LooseningCounts(s api.LooseningState) []oneValue {
	var values []oneValue
	for _, setting := range looseningSettings {
		for _, accepted := range []bool{false, true} {
			count := s.Taken[api.LooseningCount{Setting: setting, Accepted: accepted}]
			values = append(values, sample(float64(count), setting, fmt.Sprint(accepted)))
		}
	}
	return values
}

// reloadMetrics have only the labels that each of them names.
var reloadMetrics = []metric[api.ReloadState]{
	{
		Name: "xks_proxy_config_generation",
		Kind: gauge,
		Help: "Number of the configuration in use: 1 at the start, one more with each reload " +
			"that succeeded.",
		Value: func(s api.ReloadState) float64 { return float64(s.Generation) },
	},
	{
		Name: "xks_proxy_config_last_reload_success",
		Kind: gauge,
		Help: "0 if the last try to reload the configuration failed, so that an older one is in " +
			"use; else 1.",
		Value: func(s api.ReloadState) float64 { return truth(s.LastError == "") },
	},
	{
		Name:  "xks_proxy_config_last_load_timestamp_seconds",
		Kind:  gauge,
		Help:  "When the configuration in use was loaded.",
		Value: func(s api.ReloadState) float64 { return timestamp(s.LoadedAt) },
	},
	{
		Name:   "xks_proxy_config_reloads_total",
		Kind:   counter,
		Help:   "Tries to reload the configuration.",
		Labels: []string{"result"},
		Each: func(s api.ReloadState) []oneValue {
			return []oneValue{
				sample(float64(s.Attempts-s.Failures), "success"),
				sample(float64(s.Failures), "failure"),
			}
		},
	},
	{
		Name:  "xks_proxy_config_waits_for_restart",
		Kind:  gauge,
		Help:  "Keys of the configuration whose values take effect at the next start only.",
		Value: func(s api.ReloadState) float64 { return float64(len(s.WaitsForRestart)) },
	},
	{
		Name: "xks_proxy_config_loosened_total", Kind: counter, Labels: []string{"setting", "accepted"},
		Help: "Changes taken by reloads that may let in what was refused before, by key. " +
			"accepted: whether by xks-proxy reload --accept-loosening.",
		Each: func(s api.ReloadState) []oneValue { return LooseningCounts(s.Loosening) },
	},
	{
		Name: "xks_proxy_config_loosening_refused", Kind: gauge,
		Help: "1 while the last reload was refused because nobody accepted what it may let in " +
			"(reload.loosening).",
		Value: func(s api.ReloadState) float64 { return truth(len(s.Loosening.Refused) > 0) },
	},
}

// reloadCollector implements prometheus.Collector.
type reloadCollector struct {
	state   func() api.ReloadState
	metrics []described[api.ReloadState]
}

func newReloadCollector(state func() api.ReloadState) *reloadCollector {
	return &reloadCollector{state: state, metrics: describe(reloadMetrics)}
}

// Describe implements prometheus.Collector.
func (c *reloadCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *reloadCollector) Collect(to chan<- prometheus.Metric) { send(to, c.metrics, c.state()) }
