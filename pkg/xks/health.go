package xks

// GetHealthStatus (requirements H1–H4): the latest results of the background probes. It never waits
// for an HSM.

import (
	"slices"
	"strings"

	"xks-proxy/pkg/hsm/status"
)

func (x *exchange) getHealthStatus() (response, error) {
	health := x.store.group.Health()
	answer := &healthResponse{
		FleetSize: x.config.FleetSize,
		Vendor:    orUnknown(x.config.Vendor),
		Model:     orUnknown(x.config.Model),
		EKMVendor: ekmVendor(health),
	}
	for _, h := range health {
		answer.Fleet = append(
			answer.Fleet,
			healthDetail{
				ID: orUnknown(h.HSM), Model: orUnknown(h.Model), HealthStatus: string(h.Status),
			},
		)
	}
	return answer, nil
}

// ekmVendor returns one string, for a mixed pair too (requirement H1).
func ekmVendor(health []status.Health) string {
	var vendors []string
	for _, h := range health {
		if h.Vendor != "" && !slices.Contains(vendors, h.Vendor) {
			vendors = append(vendors, h.Vendor)
		}
	}
	return orUnknown(strings.Join(vendors, ", "))
}

// orUnknown keeps empty strings out of the replies, and invalid UTF-8 that a module may have
// returned.
func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return strings.ToValidUTF8(s, "?")
}
