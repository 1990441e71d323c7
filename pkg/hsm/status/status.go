// Package status holds the status of a group and its HSMs for operators and monitoring. It contains
// no secrets.
package status

// The status of a group and of each of its HSMs at one moment.

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

// Health is the result of the last probe of an HSM. Reason is only for operators.
type Health struct {
	HSM     string           `json:"hsm"`
	Info    hsm.Info         `json:"info"`
	Vendor  string           `json:"vendor"` // configured or from the token; "" if never reached
	Model   string           `json:"model"`  // likewise
	Status  Status           `json:"status"`
	Reason  string           `json:"reason,omitempty"` // why it is not Active
	Checked time.Time        `json:"checked"`          // when the probe ended
	Took    hsm.Milliseconds `json:"tookMs"`           // encrypt and decrypt together
}

// Service says whether an HSM gets requests.
type Service string

// The service states.
const (
	InService Service = "in service"
	Returning Service = "returning" // back since a moment ago; gets a growing share of the requests
	Suspected Service = "suspected" // a call has no answer; skipped until a probe succeeds
	Out       Service = "out"       // only asked when no other is left; the probe brings it back
	Drained   Service = "drained"   // taken out by an operator; never asked until resumed
)

// Group is the status of a group.
type Group struct {
	Name    string   `json:"name"`
	Members []Member `json:"hsms"`
	Keys    int      `json:"keys"` // labels in the catalogue, of all HSMs together

	// Findings are the current differences between the HSMs' keys (requirement R4).
	Findings []catalogue.Finding `json:"findings"`
	// CrossChecked counts comparisons of key material since the start; CrossPending counts key
	// versions that wait for their first comparison.
	CrossChecked uint64 `json:"crossChecked"`
	CrossPending int    `json:"crossPending"`

	Hedges       uint64 `json:"hedges"`       // second attempts because the first was slow
	HedgesDenied uint64 `json:"hedgesDenied"` // not made, for the hedging budget was spent
	Retries      uint64 `json:"retries"`      // attempts after a fault, on another HSM or the same
}

// Member is the status of one HSM of a group.
type Member struct {
	HSM      string    `json:"hsm"`
	Priority int       `json:"priority"`
	Service  Service   `json:"service"`
	Since    time.Time `json:"since"`            // of the service's state
	Reason   string    `json:"reason,omitempty"` // why it is not in service

	// KeptOutUntil is the end of the backoff of an HSM that went out again soon after it came back:
	// no probe brings it back earlier.
	KeptOutUntil time.Time `json:"keptOutUntil,omitzero"`

	Health Health `json:"health"` // of the last probe

	InFlight int    `json:"inFlight"` // requests of this group that wait for it
	Requests uint64 `json:"requests"` // attempts since the start, probes not included
	Faults   uint64 `json:"faults"`   // of these, faults of the HSM
	Slow     uint64 `json:"slow"`     // of these, later than another HSM or the attempt timeout
	Trips    uint64 `json:"trips"`    // times it was taken out by requests or a probe

	P50 hsm.Milliseconds `json:"p50Ms"` // of recent answers; 0 without any
	P99 hsm.Milliseconds `json:"p99Ms"`

	LastFault   string    `json:"lastFault,omitempty"` // in words, the CKR name included
	LastFaultAt time.Time `json:"lastFaultAt,omitzero"`

	// Unverified says why the HSM serves some keys only after they were compared with another HSM
	// (requirement R6). It is "" if the HSM serves all keys.
	Unverified string `json:"unverified,omitempty"`
	KeyFaults  uint64 `json:"keyFaults"` // attempts that failed because of the key alone
	Unproven   uint64 `json:"unproven"`  // ciphertexts refused without proof

	Keys       int       `json:"keys"`                // labels on it
	KeysListed time.Time `json:"keysListed,omitzero"` // last listing; zero if none since the start

	// Unreadable are the objects that the last listing could not read. They are not in the
	// catalogue.
	Unreadable []UnreadableObject `json:"unreadable,omitempty"`
}

// UnreadableObject is an object that cannot be read.
type UnreadableObject struct {
	Handle uint64 `json:"handle"`          // in the process that listed it
	Class  string `json:"class,omitempty"` // "secret key", …; "" if it cannot be read either
	Label  string `json:"label,omitempty"` // likewise
	Code   string `json:"code"`            // what C_GetAttributeValue answered
}
