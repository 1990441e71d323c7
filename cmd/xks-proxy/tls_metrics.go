package main

// Metrics about certificates: until when, and who was refused.

import (
	"github.com/prometheus/client_golang/prometheus"
)

const (
	certificateLabel = "name"
)

// certificateMetrics have the labels key_store and name.
var certificateMetrics = []metric[certificateStatus]{
	{Name: "xks_proxy_certificate_expiry_timestamp_seconds", Kind: gauge,
		Help:  "When the certificate of this name ends; the earliest, if several have it. key_store is empty for those of server.tls.",
		Value: func(c certificateStatus) float64 { return timestamp(c.NotAfter) }},
}

// refusalMetrics have no label but reason.
var refusalMetrics = []metric[*clientRefusals]{
	{Name: "xks_proxy_client_certificate_refusals_total", Kind: counter, Help: "Handshakes that ended because of the client's certificate.", Labels: []string{"reason"},
		Each: func(r *clientRefusals) []oneValue {
			values := make([]oneValue, 0, len(refusalReasons))
			for _, reason := range refusalReasons {
				values = append(values, sample(float64(r.byReason[reason].all.Load()), string(reason)))
			}
			return values
		}},
}

// tlsCollector implements prometheus.Collector.
type tlsCollector struct {
	holder      *tlsHolder
	certificate []described[certificateStatus]
	refusal     []described[*clientRefusals]
}

func newTLSCollector(t *tlsHolder) *tlsCollector {
	return &tlsCollector{holder: t, certificate: describe(certificateMetrics, keyStoreLabel, certificateLabel), refusal: describe(refusalMetrics)}
}

// Describe implements prometheus.Collector.
func (c *tlsCollector) Describe(to chan<- *prometheus.Desc) {
	for _, m := range c.certificate {
		to <- m.desc
	}
	for _, m := range c.refusal {
		to <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *tlsCollector) Collect(to chan<- prometheus.Metric) {
	type series struct{ keyStore, name string }
	earliest := map[series]certificateStatus{}
	for _, status := range c.holder.certificates() {
		of := series{status.KeyStore, status.firstName()}
		if known, ok := earliest[of]; !ok || status.NotAfter.Before(known.NotAfter) {
			earliest[of] = status
		}
	}
	for of, status := range earliest {
		send(to, c.certificate, status, of.keyStore, of.name)
	}
	send(to, c.refusal, c.holder.refusals)
}

// firstName stands for all of a certificate's.
func (c certificateStatus) firstName() string {
	if len(c.Names) == 0 {
		return ""
	}
	return c.Names[0]
}
