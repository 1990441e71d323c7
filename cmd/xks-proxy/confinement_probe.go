package main

// The confinement of a module that is tried without a configuration.

import "xks-proxy/pkg/confine"

// probeConfinement is for a module that is tried without a configuration.
func probeConfinement(h hsmConfig) *confinement {
	c := &config{source: &source{dir: standardPlaces[0]}}
	plan := confine.Plan{
		Allow:   append(environmentPlaces(c, h), placesOf(c, h.Module)...),
		Protect: append([]string{h.PIN.File}, standardPlaces...),
	}
	return &confinement{hsm: h, kernel: confine.ThisKernel(), wanted: plan}
}

// standardPlaces are where an installed proxy has what is its own (docs/install.md).
var standardPlaces = []string{
	"/etc/xks-proxy", "/run/xks-proxy", "/var/lib/xks-proxy", "/var/log/xks-proxy",
}
