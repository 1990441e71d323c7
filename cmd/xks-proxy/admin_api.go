package main

// What is said over the admin socket: JSON over HTTP, for the operator's commands and
// scripts. Durations are in nanoseconds.

import (
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
