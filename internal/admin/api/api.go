package api

// What is said over the admin socket: JSON over HTTP, for the operator's commands and
// scripts. Durations are in nanoseconds.

import (
	"xks-proxy/pkg/hsm/worker"
)

// The paths of the admin API. {name} is an HSM.
const (
	ListPath    = "/v1/hsms"
	DrainPath   = "/v1/hsms/{name}/drain"   // query: force, timeout
	ResumePath  = "/v1/hsms/{name}/resume"  // query: timeout
	RestartPath = "/v1/hsms/{name}/restart" // query: force, timeout

	// GET: what is blocked. POST blocks, DELETE takes back; query: key_store, key, reason, force.
	BlocksPath      = "/v1/blocks"
	StatusPath      = "/v1/status"
	CredentialsPath = "/v1/credentials"
)

// DescribeProcess is the state of a process as the admin API answers it.
func DescribeProcess(s worker.State) Process {
	p := Process{
		Phase: s.Phase, Since: s.Since, PID: s.PID, Restarts: s.Restarts, Sessions: s.Sessions,
		Busy: s.Busy, Hung: s.Hung, Memory: s.Memory, Overgrown: s.Overgrown, InFlight: s.InFlight, EndedAt: s.EndedAt, RetryAt: s.RetryAt,
	}
	if s.LastErr != nil {
		p.LastError = s.LastErr.Error()
	}
	return p
}

// Answer is the answer of a call that changes something: what was done, or
// what was not and why.
type Answer struct {
	Message string `json:"message,omitempty"`
	Error   string `json:"error,omitempty"`
}
