package fleet

// The confinement of a module that is tried without a configuration.

import (
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/confine"
)

// ProbeConfinement is for a module that is tried without a configuration.
func ProbeConfinement(h config.HSM) *Confinement {
	c := &config.Config{Source: &schema.Source{Dir: standardPlaces[0]}}
	plan := confine.Plan{
		Allow:   append(config.EnvironmentPlaces(c, h), config.PlacesOf(c, h.Module)...),
		Protect: append([]string{h.PIN.File}, standardPlaces...),
	}
	return &Confinement{hsm: h, kernel: confine.ThisKernel(), wanted: plan}
}

// standardPlaces are where an installed proxy has what is its own (docs/install.md).
var standardPlaces = []string{
	"/etc/xks-proxy", "/run/xks-proxy", "/var/lib/xks-proxy", "/var/log/xks-proxy",
}
