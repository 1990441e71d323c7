package config

// Checks of the listeners, their client certificates and the times of a request.

import (
	"fmt"
	"net"
	"slices"
	"strconv"

	"xks-proxy/internal/config/schema"
)

func validateServer(r *schema.Report, c *Config) {
	s := c.Server
	validateListeners(r, c)
	validateMetrics(r, c)
	validateClientCertificates(r, "server.client_certificates", s.ClientCertificates)
	validateProxyProtocol(r, "server.proxy_protocol", s.ProxyProtocol)
	if s.Budget > KMSPatience {
		r.Warnf("server.budget", "AWS KMS gives up after %s, network included", KMSPatience)
	}
	if s.FirstRequestBudget > s.Budget && !r.Failed["server.budget"] {
		r.Warnf("server.first_request_budget", "is longer than server.budget, which ends first")
	}
	if s.MaxQueueTime >= s.Budget && !r.Failed["server.budget"] {
		r.Errorf("server.max_queue_time", "%s is not below server.budget (%s); a request that "+
			"waited that long could not be answered", s.MaxQueueTime, s.Budget)
	}
	if s.IdleTimeout <= balancerIdle {
		r.Warnf("server.idle_timeout", "a network load balancer keeps idle connections for %s; "+
			"close them later than that, or requests fail now and then", balancerIdle)
	}
	if s.TCPKeepAlive >= balancerIdle {
		r.Warnf("server.tcp_keep_alive", "a network load balancer forgets idle connections after "+
			"%s; probe more often", balancerIdle)
	}
	needed := base64Size(s.MaxPlaintext) + base64Size(s.MaxAAD) + metadataSize
	if s.MaxBody < needed {
		r.Warnf("server.max_body", "max_plaintext and max_aad together need up to %d bytes of "+
			"Base64 and JSON", needed)
	}
}

func validateListeners(r *schema.Report, c *Config) {
	validateAddress(r, "server.listen", c.Server.Listen)
	if c.Health.Listen != "" {
		validateAddress(r, "health.listen", c.Health.Listen)
	}
	if c.Health.Listen == c.Server.Listen {
		r.Errorf("health.listen", "is the address of server.listen; health checks need a port of "+
			"their own")
	}
	users := map[string]string{c.Server.Listen: "server.listen", c.Health.Listen: "health.listen"}
	user, taken := users[c.Metrics.Listen]
	if c.Metrics.Listen != "" {
		if taken && !anyPort(c.Metrics.Listen) {
			r.Errorf("metrics.listen", "is the address of %s; each listener has its own", user)
		}
		users[c.Metrics.Listen] = "metrics.listen"
	}
	for i, l := range c.Server.Listeners {
		at := fmt.Sprintf("server.listeners[%d]", i)
		key := at + ".listen"
		validateAddress(r, key, l.Listen)
		user, taken := users[l.Listen]
		if taken && !anyPort(l.Listen) {
			r.Errorf(key, "is the address of %s; each listener has its own", user)
		}
		users[l.Listen] = key
		validateClientCertificates(r, at+".client_certificates", l.ClientCertificates)
		validateProxyProtocol(r, at+".proxy_protocol", l.ProxyProtocol)
	}
}

// anyPort reports whether the system chooses the port, a different one for each listener.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// validateAddress reports an address that is not HOST:PORT.
func validateAddress(r *schema.Report, key, address string) {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		r.Errorf(
			key, "%q is not an address and port; write it like 0.0.0.0:8443 or [::1]:8443", address,
		)
	}
}

// validateClientCertificates checks requirement A7.
func validateClientCertificates(r *schema.Report, at string, c ClientCertificates) {
	if c.CA == "" {
		const nothing = "does nothing without ca, and anybody may connect; name the CA that " +
			"client certificates come from, or remove this"
		if len(c.Subjects) > 0 {
			r.Errorf(at+".subjects", nothing)
		}
		if !slices.Equal(c.Usages, []string{"clientAuth"}) && len(c.Usages) > 0 {
			r.Errorf(at+".usages", nothing)
		}
		return
	}
	if len(c.Subjects) == 0 {
		r.Errorf(at+".subjects", "is missing: with ca alone, anyone with a certificate of that "+
			"CA may connect; name cks.kms.REGION.amazonaws.com of your region")
	}
	for i, subject := range c.Subjects {
		if subject == "" {
			r.Errorf(fmt.Sprintf("%s.subjects[%d]", at, i), "must not be empty")
		}
	}
	if len(c.Usages) == 0 {
		r.Errorf(at+".usages", "is empty, and no certificate has none of them; remove it for "+
			"clientAuth")
	}
}
