package metrics

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

	"xks-proxy/internal/admin"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/fleet"
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

// Sources is what the metrics are read from: what the operator's service sees, and what only
// monitoring does. Every field is required.
type Sources struct {
	admin.Config
	Besides func() map[string]int64 // connections closed, by listener beside the HTTPS ports
	TLS     *certs.Holder
}

// Handler serves the metrics.
func Handler(from Sources) http.Handler {
	log, err := zap.NewStdLogAt(from.Log, zap.WarnLevel)
	if err != nil {
		panic(err) // zap knows the level
	}
	return promhttp.HandlerFor(New(from), promhttp.HandlerOpts{
		ErrorLog: log, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout,
	})
}

// New is a registry of its own: nothing that a library registers globally gets in.
func New(from Sources) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		newHSMCollector(from),
		NewServiceCollector(from),
		NewTLSCollector(from.TLS),
		newReloadCollector(from.Reloads.State),
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
	from    Sources
	member  []described[status.Member]
	process []described[worker.State]
	testKey []described[*fleet.TestKeyMaker]
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
			to <- prometheus.MustNewConstMetric(m.desc, m.Kind, one.Value, slices.Concat(labels, one.Labels)...)
		}
	}
}

func newHSMCollector(from Sources) *hsmCollector {
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
	groups := c.from.Groups()
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
	for name, p := range c.from.Processes() {
		send(to, c.process, p.State(), name)
		if maker := fleet.TestKeyMakerOf(p); maker != nil {
			send(to, c.testKey, maker, name)
		}
	}
}

// collectStarting is for the time before the HSMs have started: their counters are there at 0. A
// counter that begins with what happened in the first seconds would hide it from increase().
func (c *hsmCollector) collectStarting(to chan<- prometheus.Metric) {
	for _, g := range c.from.Running().HSMGroups {
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
	from     Sources
	store    []described[xks.KeyStoreStatus]
	proxy    []described[proxyFigures]
	duration *prometheus.Desc
}

// NewServiceCollector collects the metrics of the proxy, its key stores and their credentials.
func NewServiceCollector(from Sources) prometheus.Collector {
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
	served := c.from.KeyStores()
	for _, k := range served {
		send(to, c.store, k, k.Name)
	}
	if served == nil { // the proxy starts
		for _, k := range c.from.Running().KeyStores {
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
