package main

// What is said over the admin socket: JSON over HTTP, for the operator's commands and
// scripts. Durations are in nanoseconds.

import (
	"time"

	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// The paths of the admin API. {name} is an HSM.
const (
	adminListPath    = "/v1/hsms"
	adminDrainPath   = "/v1/hsms/{name}/drain"   // query: force, timeout
	adminResumePath  = "/v1/hsms/{name}/resume"  // query: timeout
	adminRestartPath = "/v1/hsms/{name}/restart" // query: force, timeout

	// GET: what is blocked. POST blocks, DELETE takes back; query: key_store, key, reason, force.
	adminBlocksPath      = "/v1/blocks"
	adminStatusPath      = "/v1/status"
	adminCredentialsPath = "/v1/credentials"
)

// adminStatus is the answer of adminListPath.
type adminStatus struct {
	Version   string                   `json:"version"`
	Starting  bool                     `json:"starting,omitempty"` // it waits for its HSMs; no groups yet
	Groups    []status.Group           `json:"groups"`             // in the order of the configuration
	Processes map[string]processStatus `json:"processes"`          // by HSM
}

// processStatus is the process of one HSM.
type processStatus struct {
	Phase     worker.Phase `json:"phase"`
	Since     time.Time    `json:"since"` // of the phase
	PID       int          `json:"pid"`   // 0: there is none
	Restarts  int          `json:"restarts"`
	Sessions  int          `json:"sessions"`
	Busy      int          `json:"busy"`                // sessions with a call in them
	Hung      int          `json:"hung"`                // of these, longer than hang_timeout
	Memory    int64        `json:"memoryBytes"`         // that it has for itself
	Overgrown int          `json:"memoryReplacements"`  // of the restarts, those because of memory_limit_mib
	InFlight  int          `json:"inFlight"`            // calls without an answer, those that no request waits for included
	LastError string       `json:"lastError,omitempty"` // why the last process ended or did not start
	EndedAt   time.Time    `json:"endedAt,omitzero"`    // of that
	RetryAt   time.Time    `json:"retryAt,omitzero"`    // zero in phase failed: only "hsm restart" helps
}

func describeProcess(s worker.State) processStatus {
	p := processStatus{
		Phase: s.Phase, Since: s.Since, PID: s.PID, Restarts: s.Restarts, Sessions: s.Sessions,
		Busy: s.Busy, Hung: s.Hung, Memory: s.Memory, Overgrown: s.Overgrown, InFlight: s.InFlight, EndedAt: s.EndedAt, RetryAt: s.RetryAt,
	}
	if s.LastErr != nil {
		p.LastError = s.LastErr.Error()
	}
	return p
}

// adminAnswer is the answer of a call that changes something: what was done, or
// what was not and why.
type adminAnswer struct {
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}
