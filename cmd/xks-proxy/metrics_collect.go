package main

// From the groups, processes and key stores to Prometheus: collectors that look when they are
// asked.

import (
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
	"xks-proxy/pkg/xks"
)

const (
	scrapeTimeout  = 5 * time.Second
	scrapesAtOnce  = 4
	groupLabel     = "hsm_group"
	hsmLabel       = "hsm"
	buildInfoName  = "xks_proxy_build_info"
	buildInfoHelp  = "1, with the version of the program."
	buildInfoLabel = "version"
)

// metricSources is what the metrics are read from: what the operator's service sees, and what only
// monitoring does. Every field is required.
type metricSources struct {
	serviceConfig
	besides func() map[string]int64 // connections closed, by listener beside the HTTPS ports
	tls     *tlsHolder
}

// metricsHandler serves the metrics.
func metricsHandler(from metricSources) http.Handler {
	log, err := zap.NewStdLogAt(from.log, zap.WarnLevel)
	if err != nil {
		panic(err) // zap knows the level
	}
	return promhttp.HandlerFor(newMetrics(from), promhttp.HandlerOpts{
		ErrorLog: log, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout,
	})
}

// newMetrics is a registry of its own: nothing that a library registers globally gets in.
func newMetrics(from metricSources) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newHSMCollector(from),
		newServiceCollector(from),
		newTLSCollector(from.tls),
		newReloadCollector(from.reloads.state),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: buildInfoName, Help: buildInfoHelp, ConstLabels: prometheus.Labels{buildInfoLabel: version.Get().Version},
		}, func() float64 { return 1 }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}

// hsmCollector implements prometheus.Collector.
type hsmCollector struct {
	from    metricSources
	member  []described[status.Member]
	process []described[worker.State]
	testKey []described[*testKeyMaker]
	group   []described[status.Group]
}

// described is a metric with its description for the library.
type described[T any] struct {
	metric[T]
	desc *prometheus.Desc
}

func describe[T any](metrics []metric[T], labels ...string) []described[T] {
	all := make([]described[T], 0, len(metrics))
	for _, m := range metrics {
		names := slices.Concat(labels, m.Labels)
		all = append(all, described[T]{m, prometheus.NewDesc(m.Name, m.Help, names, nil)})
	}
	return all
}

// send gives the values of one T to the library.
func send[T any](to chan<- prometheus.Metric, metrics []described[T], of T, labels ...string) {
	for _, m := range metrics {
		if m.Each == nil {
			to <- prometheus.MustNewConstMetric(m.desc, m.Kind, m.Value(of), labels...)
			continue
		}
		for _, one := range m.Each(of) {
			to <- prometheus.MustNewConstMetric(m.desc, m.Kind, one.value, slices.Concat(labels, one.labels)...)
		}
	}
}

func newHSMCollector(from metricSources) *hsmCollector {
	return &hsmCollector{
		from:    from,
		member:  describe(memberMetrics, groupLabel, hsmLabel),
		process: describe(processMetrics, hsmLabel),
		testKey: describe(testKeyMetrics, hsmLabel),
		group:   describe(groupMetrics, groupLabel),
	}
}

// Describe implements prometheus.Collector.
func (c *hsmCollector) Describe(to chan<- *prometheus.Desc) {
	announce(to, c.member)
	announce(to, c.process)
	announce(to, c.testKey)
	announce(to, c.group)
}

func announce[T any](to chan<- *prometheus.Desc, metrics []described[T]) {
	for _, m := range metrics {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *hsmCollector) Collect(to chan<- prometheus.Metric) {
	groups := c.from.groups()
	if len(groups) == 0 {
		c.collectStarting(to)
	}
	for _, g := range groups {
		status := g.Status()
		send(to, c.group, status, status.Name)
		for _, m := range status.Members {
			send(to, c.member, m, status.Name, m.HSM)
		}
	}
	for name, p := range c.from.processes() {
		send(to, c.process, p.State(), name)
		if maker := testKeyMakerOf(p); maker != nil {
			send(to, c.testKey, maker, name)
		}
	}
}

// collectStarting is for the time before the HSMs have started: their counters are there at 0. A
// counter that begins with what happened in the first seconds would hide it from increase().
func (c *hsmCollector) collectStarting(to chan<- prometheus.Metric) {
	for _, g := range c.from.config().HSMGroups {
		send(to, counters(c.group), status.Group{Name: g.Name}, g.Name)
		for _, m := range g.HSMs {
			send(to, counters(c.member), status.Member{HSM: m.HSM}, g.Name, m.HSM)
		}
	}
}

// counters are those of the metrics whose 0 is true of what has not begun.
func counters[T any](metrics []described[T]) []described[T] {
	return slices.DeleteFunc(
		slices.Clone(metrics),
		func(m described[T]) bool { return m.Kind != counter },
	)
}

// serviceCollector implements prometheus.Collector.
type serviceCollector struct {
	from     metricSources
	store    []described[xks.KeyStoreStatus]
	proxy    []described[proxyFigures]
	duration *prometheus.Desc
}

func newServiceCollector(from metricSources) *serviceCollector {
	return &serviceCollector{
		from:     from,
		store:    describe(storeMetrics, keyStoreLabel),
		proxy:    describe(proxyMetrics),
		duration: prometheus.NewDesc(durationName, durationHelp, []string{durationLabel}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *serviceCollector) Describe(to chan<- *prometheus.Desc) {
	announce(to, c.store)
	announce(to, c.proxy)
	to <- c.duration
}

// Collect implements prometheus.Collector.
func (c *serviceCollector) Collect(to chan<- prometheus.Metric) {
	served := c.from.keyStores()
	for _, k := range served {
		send(to, c.store, k, k.Name)
	}
	if served == nil { // the proxy starts
		for _, k := range c.from.config().KeyStores {
			send(to, counters(c.store), xks.ZeroKeyStoreStatus(k.Name, k.Owner), k.Name)
		}
	}
	figures := figuresOf(c.from)
	send(to, c.proxy, figures)
	for _, o := range figures.handler.Operations {
		buckets := make(map[float64]uint64, len(o.Buckets))
		for _, b := range o.Buckets {
			buckets[b.UpTo.Seconds()] = b.Count
		}
		to <- prometheus.MustNewConstHistogram(c.duration, o.Count, o.Sum.Seconds(), buckets, o.Operation)
	}
}
