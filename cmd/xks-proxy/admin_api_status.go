package main

// The state of the HSMs and of the whole proxy, as the admin API answers it.

import (
	"path/filepath"
	"slices"
	"strings"
	"time"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
	"xks-proxy/pkg/xks/listener"
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

// namesShown is how many names of a certificate stand in one line.
const namesShown = 3

// severity is how urgent something is.
type severity string

const (
	severityInfo     severity = "info" // wanted by an operator, such as a drained HSM
	severityWarning  severity = "warning"
	severityCritical severity = "critical"
)

// severities are in the order of urgency.
var severities = []severity{severityInfo, severityWarning, severityCritical}

// attention is one thing to look at, as a sentence.
type attention struct {
	Severity severity `json:"severity"`
	Text     string   `json:"text"`
}

// worst is the severity of the most urgent; "" without any.
func worst(all []attention) severity {
	var most severity
	for _, a := range all {
		if slices.Index(severities, a.Severity) > slices.Index(severities, most) {
			most = a.Severity
		}
	}
	return most
}

// proxyStatus is the answer of adminStatusPath.
type proxyStatus struct {
	Version      string              `json:"version"`
	Since        time.Time           `json:"since"`               // the start of the program
	State        string              `json:"state"`               // readyVerdict, or why it is not
	Attention    []attention         `json:"attention,omitempty"` // what an operator should look at, the most urgent first
	ConfigFile   string              `json:"configFile"`
	Reload       *reloadState        `json:"reload,omitempty"`
	Groups       []groupSummary      `json:"hsmGroups"`
	Certificates []certificateStatus `json:"certificates"`
	Confinement  []confinementStatus `json:"confinement,omitempty"` // by HSM
	Refused      int64               `json:"adminRefused"`          // orders of descendants
	InFlight     int                 `json:"inFlight"`
	Connections  *connectionCounts   `json:"connections,omitempty"`
	Log          *logState           `json:"log,omitempty"`
	KeyStores    []keyStoreSummary   `json:"keyStores"` // in the order of the configuration
	Blocks       blockList           `json:"blocks"`
}

// groupSummary is one HSM group in one line; `hsm list` has all of it.
type groupSummary struct {
	Name      string       `json:"name"`
	HSMs      int          `json:"hsms"`
	InService int          `json:"inService"`
	Others    []hsmSummary `json:"others,omitempty"`              // that are not in service, or not well
	Findings  int          `json:"keyFindings,omitempty"`         // about their keys, without the minor ones
	Dangerous int          `json:"keyFindingsCritical,omitempty"` // of these, dangerousFindings
}

type hsmSummary struct {
	Name       string         `json:"name"`
	Service    status.Service `json:"service"`
	Since      time.Time      `json:"since"`
	Health     status.Status  `json:"health"`
	Reason     string         `json:"reason,omitempty"`
	Unverified string         `json:"unverified,omitempty"`
}

// keyStoreSummary is one row of the table. Counts are since the start.
type keyStoreSummary struct {
	Name        string    `json:"name"`
	Owner       string    `json:"owner,omitempty"`
	Blocked     string    `json:"blocked,omitempty"` // by whom: a user, or configurationBlocks
	Requests    uint64    `json:"requests"`
	Failed      uint64    `json:"failed"`    // answered with an error other than ThrottlingException
	Throttled   uint64    `json:"throttled"` // answered ThrottlingException
	InFlight    int       `json:"inFlight"`
	LastRequest time.Time `json:"lastRequest,omitzero"`
}

// configurationBlocks is who has blocked a key store that its configuration blocks.
const configurationBlocks = "configuration"

// connectionCounts are those of all HTTPS ports together.
type connectionCounts struct {
	Open    int   `json:"open"`
	Refused int64 `json:"refused"` // since the start, because there were too many
	CutOff  int64 `json:"cutOff"`  // since the start, because too many were busy without an authenticated request

	// Since the start, by what the header of the PROXY protocol came to.
	Headers map[listener.HeaderOutcome]int64 `json:"proxyProtocol,omitempty"`
}

// mattering counts the findings that are more than minor.
func mattering(findings []catalogue.Finding) int {
	n := 0
	for _, f := range findings {
		if f.Kind.Severity() > catalogue.Minor {
			n++
		}
	}
	return n
}

// withoutName leaves out an HSM's own name where errors begin with it.
func withoutName(message, name string) string {
	message = strings.TrimPrefix(message, name+": ")
	return strings.ReplaceAll(message, ": "+name+": ", ": ")
}

// readyVerdict is the verdict of a proxy that serves.
const readyVerdict = "ready"

// absolute is a file as an operator finds it from any directory.
func absolute(file string) string {
	path, err := filepath.Abs(file)
	if err != nil {
		return file // the directory of the process is gone
	}
	return path
}

// reloadState is the state of the configuration in use, and of the last try to replace it.
type reloadState struct {
	Generation      int       `json:"generation"` // from 1, counting what came into force
	LoadedAt        time.Time `json:"loadedAt"`
	Attempts        int       `json:"attempts"` // reloads, the start not included
	Failures        int       `json:"failures"`
	LastAttempt     time.Time `json:"lastAttempt,omitzero"`
	LastBy          string    `json:"lastBy,omitempty"`
	LastError       string    `json:"lastError,omitempty"` // "" if the last one succeeded
	WaitsForRestart []string  `json:"waitsForRestart"`     // keys

	Loosening looseningState `json:"loosening"`
}
