// Package status is what operators and monitoring see of a group and of its HSMs.
package status

// What an operator can know of a group and of each of its HSMs at one moment. Nothing here holds a
// secret.

import (
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// Status is the healthStatus of GetHealthStatus (requirement H1).
type Status string

// The three states of an HSM.
const (
	Active      Status = "ACTIVE"
	Degraded    Status = "DEGRADED"    // unhealthy, but can serve
	Unavailable Status = "UNAVAILABLE" // cannot serve
)

// Health is the result of a probe. Reason is for the operator only.
type Health struct {
	HSM     string           `json:"hsm"`
	Info    hsm.Info         `json:"info"`
	Vendor  string           `json:"vendor"` // as configured, or as the token says; "" if never reached
	Model   string           `json:"model"`  // likewise
	Status  Status           `json:"status"`
	Reason  string           `json:"reason,omitempty"` // why it is not Active
	Checked time.Time        `json:"checked"`          // when the probe ended
	Took    hsm.Milliseconds `json:"tookMs"`           // encrypt and decrypt together
}

// Service is whether an HSM gets requests.
type Service string

// The states of service.
const (
	InService Service = "in service"
	Returning Service = "returning" // back since a moment ago; gets a growing share of the requests
	Suspected Service = "suspected" // a call has no answer; passed over while the probe looks into it
	Out       Service = "out"       // only asked when no other is left; the probe brings it back
	Drained   Service = "drained"   // taken out by an operator; never asked until resumed
)

// Group is a group at one moment.
type Group struct {
	Name    string   `json:"name"`
	Members []Member `json:"hsms"`
	Keys    int      `json:"keys"` // labels in the catalogue, of all HSMs together

	// Findings are the differences between the HSMs' keys that stand now (requirement R4).
	Findings []catalogue.Finding `json:"findings"`
	// CrossChecked counts the key versions whose material was compared since the start, and
	// CrossPending those that still wait for their first comparison.
	CrossChecked uint64 `json:"crossChecked"`
	CrossPending int    `json:"crossPending"`

	Hedges       uint64 `json:"hedges"`       // second attempts because the first was slow
	HedgesDenied uint64 `json:"hedgesDenied"` // not made, for the hedging budget was spent
	Retries      uint64 `json:"retries"`      // attempts after a fault, on another HSM or the same
}

// Member is one HSM of a group at one moment.
type Member struct {
	HSM      string    `json:"hsm"`
	Priority int       `json:"priority"`
	Service  Service   `json:"service"`
	Since    time.Time `json:"since"`            // of the service's state
	Reason   string    `json:"reason,omitempty"` // why it is not in service

	// KeptOutUntil: it went out again soon after it came back, so that no probe brings it back
	// before then.
	KeptOutUntil time.Time `json:"keptOutUntil,omitzero"`

	Health Health `json:"health"` // of the last probe

	InFlight int    `json:"inFlight"` // requests of this group that wait for it
	Requests uint64 `json:"requests"` // attempts since the start, probes not included
	Faults   uint64 `json:"faults"`   // of these, faults of the HSM
	Slow     uint64 `json:"slow"`     // of these, so slow that another HSM answered first, or without an answer within the attempt timeout
	Trips    uint64 `json:"trips"`    // times it was taken out by requests or a probe

	P50 hsm.Milliseconds `json:"p50Ms"` // of recent answers; 0 without any
	P99 hsm.Milliseconds `json:"p99Ms"`

	LastFault   string    `json:"lastFault,omitempty"` // in words, the CKR name included
	LastFaultAt time.Time `json:"lastFaultAt,omitzero"`

	// Unverified says why the HSM serves some keys only after they were compared with another HSM
	// (requirement R6); "" if it serves all.
	Unverified string `json:"unverified,omitempty"`
	KeyFaults  uint64 `json:"keyFaults"` // attempts that failed because of the key alone
	Unproven   uint64 `json:"unproven"`  // ciphertexts refused without proof

	Keys       int       `json:"keys"`                // labels on it
	KeysListed time.Time `json:"keysListed,omitzero"` // when they were last listed; zero: not since the start

	// Unreadable are the objects that the last listing could not read. They are left out.
	Unreadable []UnreadableObject `json:"unreadable,omitempty"`
}

// UnreadableObject is an object that cannot be read, as the status shows it.
type UnreadableObject struct {
	Handle uint64 `json:"handle"`          // in the process that listed it
	Class  string `json:"class,omitempty"` // "secret key", …; "" if it cannot be read either
	Label  string `json:"label,omitempty"` // likewise
	Code   string `json:"code"`            // what C_GetAttributeValue answered
}
