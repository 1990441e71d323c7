package config

// The listener that serves only the metrics, optionally with TLS and passwords. Health checks stay
// on their own port, for load balancers that support neither.

import (
	"xks-proxy/internal/config/schema"
)

// WebConfigKey names the file with TLS and passwords: see package webconfig.
const WebConfigKey = "metrics.web_config"

// validateMetrics refuses to serve the metrics on the health port when they have their own
// listener.
func validateMetrics(r *schema.Report, c *Config) {
	m := c.Metrics
	if m.Listen == "" {
		if m.WebConfig != "" {
			r.Errorf(WebConfigKey, "is for metrics.listen, which is missing; "+
				"give the metrics an address and port of their own, such as 0.0.0.0:9443")
		}
		return
	}
	validateAddress(r, "metrics.listen", m.Listen)
	_, given := r.Origins["health.metrics"]
	if given && c.Health.Metrics {
		r.Errorf("health.metrics", "is true, and metrics.listen is set as well: the health port "+
			"would serve the metrics to anybody; remove one of them")
	}
}
