package metrics

// Metrics about certificates: until when, and who was refused.

import (
	"github.com/prometheus/client_golang/prometheus"

	"xks-proxy/internal/certs"
)

const (
	certificateLabel = "name"
	useLabel         = "use"
)

// certificateMetrics have the labels key_store, name and use.
var certificateMetrics = []metric[certs.Status]{
	{Name: "xks_proxy_certificate_expiry_timestamp_seconds", Kind: gauge,
		Help: "When the certificate of this name ends; the earliest, if several have it. " +
			"key_store is empty for those of server.tls. use is server, or client_ca for CAs of " +
			"client certificates.",
		Value: func(c certs.Status) float64 { return timestamp(c.NotAfter) }},
	{Name: "xks_proxy_certificate_not_before_timestamp_seconds", Kind: gauge,
		Help: "When the validity of that certificate begins: with its end, how long it is valid " +
			"as a whole.",
		Value: func(c certs.Status) float64 { return timestamp(c.NotBefore) }},
}

// handshakeMetrics have the label reason.
var handshakeMetrics = []metric[*certs.Handshakes]{
	{
		Name:   "xks_proxy_tls_handshake_failures_total",
		Kind:   counter,
		Help:   "TLS handshakes on the HTTPS ports that failed, by reason.",
		Labels: []string{"reason"},
		Each: func(h *certs.Handshakes) []oneValue {
			values := make([]oneValue, 0, len(certs.HandshakeReasons))
			for _, reason := range certs.HandshakeReasons {
				values = append(values, sample(float64(h.Failed[reason].Load()), string(reason)))
			}
			return values
		},
	},
}

// refusalMetrics have the label reason.
var refusalMetrics = []metric[*certs.ClientRefusals]{
	{
		Name:   "xks_proxy_client_certificate_refusals_total",
		Kind:   counter,
		Help:   "Handshakes that ended because of the client's certificate.",
		Labels: []string{"reason"},
		Each: func(r *certs.ClientRefusals) []oneValue {
			values := make([]oneValue, 0, len(certs.RefusalReasons))
			for _, reason := range certs.RefusalReasons {
				values = append(
					values,
					sample(float64(r.ByReason[reason].All.Load()), string(reason)),
				)
			}
			return values
		},
	},
}

// tlsCollector implements prometheus.Collector.
type tlsCollector struct {
	holder      *certs.Holder
	certificate []described[certs.Status]
	handshake   []described[*certs.Handshakes]
	refusal     []described[*certs.ClientRefusals]
}

// NewTLSCollector collects the metrics of certificates, of failed handshakes and of refused
// clients.
func NewTLSCollector(t *certs.Holder) prometheus.Collector {
	return &tlsCollector{
		holder:      t,
		certificate: describe(certificateMetrics, keyStoreLabel, certificateLabel, useLabel),
		handshake:   describe(handshakeMetrics),
		refusal:     describe(refusalMetrics),
	}
}

// Describe implements prometheus.Collector.
func (c *tlsCollector) Describe(to chan<- *prometheus.Desc) {
	announce(to, c.certificate)
	announce(to, c.handshake)
	announce(to, c.refusal)
}

// Collect implements prometheus.Collector.
func (c *tlsCollector) Collect(to chan<- prometheus.Metric) {
	type series struct{ keyStore, name, use string }
	earliest := map[series]certs.Status{}
	for _, status := range c.holder.Certificates() {
		of := series{status.KeyStore, status.FirstName(), status.Use}
		if known, ok := earliest[of]; !ok || status.NotAfter.Before(known.NotAfter) {
			earliest[of] = status
		}
	}
	for of, status := range earliest {
		send(to, c.certificate, status, of.keyStore, of.name, of.use)
	}
	send(to, c.handshake, c.holder.Handshakes)
	send(to, c.refusal, c.holder.Handshakes.Refusals)
}
