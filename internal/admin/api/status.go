package api

// The state of the HSMs and of the whole proxy, as the admin API answers it.

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
	"xks-proxy/pkg/xks/listener"
)

// List is the answer of ListPath.
type List struct {
	Version   string             `json:"version"`
	Starting  bool               `json:"starting,omitempty"` // it waits for its HSMs; no groups yet
	Groups    []status.Group     `json:"groups"`             // in the order of the configuration
	Processes map[string]Process `json:"processes"`          // by HSM
}

// Process is the process of one HSM.
type Process struct {
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

// NamesShown is how many names of a certificate stand in one line.
const NamesShown = 3

// Severity is how urgent something is.
type Severity string

const (
	Info     Severity = "info" // wanted by an operator, such as a drained HSM
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Severities are in the order of urgency.
var Severities = []Severity{Info, Warning, Critical}

// Attention is one thing to look at, as a sentence.
type Attention struct {
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
}

// Worst is the severity of the most urgent; "" without any.
func Worst(all []Attention) Severity {
	var most Severity
	for _, a := range all {
		if slices.Index(Severities, a.Severity) > slices.Index(Severities, most) {
			most = a.Severity
		}
	}
	return most
}

// Status is the answer of StatusPath.
type Status struct {
	Version      string                    `json:"version"`
	Since        time.Time                 `json:"since"`               // the start of the program
	State        string                    `json:"state"`               // ReadyVerdict, or why the proxy is not ready
	Attention    []Attention               `json:"attention,omitempty"` // what an operator should look at, the most urgent first
	ConfigFile   string                    `json:"configFile"`
	Reload       *ReloadState              `json:"reload,omitempty"`
	Groups       []GroupSummary            `json:"hsmGroups"`
	Certificates []certs.Status            `json:"certificates"`
	Confinement  []fleet.ConfinementStatus `json:"confinement,omitempty"` // by HSM
	Refused      int64                     `json:"adminRefused"`          // orders of descendants
	InFlight     int                       `json:"inFlight"`
	Connections  *ConnectionCounts         `json:"connections,omitempty"`
	Log          *logging.State            `json:"log,omitempty"`
	KeyStores    []KeyStoreSummary         `json:"keyStores"` // in the order of the configuration
	Blocks       BlockList                 `json:"blocks"`
}

// GroupSummary is one HSM group in one line; `hsm list` has all of it.
type GroupSummary struct {
	Name      string       `json:"name"`
	HSMs      int          `json:"hsms"`
	InService int          `json:"inService"`
	Others    []HSMSummary `json:"others,omitempty"`              // that are not in service, or not well
	Findings  int          `json:"keyFindings,omitempty"`         // about their keys, without the minor ones
	Dangerous int          `json:"keyFindingsCritical,omitempty"` // of these, admin.DangerousFindings
}

// HSMSummary is an HSM of a group that is not in service or not well.
type HSMSummary struct {
	Name       string         `json:"name"`
	Service    status.Service `json:"service"`
	Since      time.Time      `json:"since"`
	Health     status.Status  `json:"health"`
	Reason     string         `json:"reason,omitempty"`
	Unverified string         `json:"unverified,omitempty"`
}

// KeyStoreSummary is one row of the table. Counts are since the start.
type KeyStoreSummary struct {
	Name        string    `json:"name"`
	Owner       string    `json:"owner,omitempty"`
	Blocked     string    `json:"blocked,omitempty"` // by whom: a user, or ConfigurationBlocks
	Requests    uint64    `json:"requests"`
	Failed      uint64    `json:"failed"`    // answered with an error other than ThrottlingException
	Throttled   uint64    `json:"throttled"` // answered ThrottlingException
	InFlight    int       `json:"inFlight"`
	LastRequest time.Time `json:"lastRequest,omitzero"`
}

// ConfigurationBlocks is who has blocked a key store that its configuration blocks.
const ConfigurationBlocks = "configuration"

// ConnectionCounts are those of all HTTPS ports together.
type ConnectionCounts struct {
	Open    int   `json:"open"`
	Refused int64 `json:"refused"` // since the start, because there were too many
	CutOff  int64 `json:"cutOff"`  // since the start, because too many were busy without an authenticated request

	// Since the start, by what the header of the PROXY protocol came to.
	Headers map[listener.HeaderOutcome]int64 `json:"proxyProtocol,omitempty"`
}

// Mattering counts the findings that are more than minor.
func Mattering(findings []catalogue.Finding) int {
	n := 0
	for _, f := range findings {
		if f.Kind.Severity() > catalogue.Minor {
			n++
		}
	}
	return n
}

// WithoutName leaves out an HSM's own name where errors begin with it.
func WithoutName(message, name string) string {
	message = strings.TrimPrefix(message, name+": ")
	return strings.ReplaceAll(message, ": "+name+": ", ": ")
}

// ReadyVerdict is the verdict of a proxy that serves.
const ReadyVerdict = "ready"

// Absolute is a file as an operator finds it from any directory.
func Absolute(file string) string {
	path, err := filepath.Abs(file)
	if err != nil {
		return file // the directory of the process is gone
	}
	return path
}

// ReloadState is the state of the configuration in use, and of the last try to replace it.
type ReloadState struct {
	Generation      int       `json:"generation"` // from 1, counting what came into force
	LoadedAt        time.Time `json:"loadedAt"`
	Attempts        int       `json:"attempts"` // reloads, the start not included
	Failures        int       `json:"failures"`
	LastAttempt     time.Time `json:"lastAttempt,omitzero"`
	LastBy          string    `json:"lastBy,omitempty"`
	LastError       string    `json:"lastError,omitempty"` // "" if the last one succeeded
	WaitsForRestart []string  `json:"waitsForRestart"`     // keys

	Loosening LooseningState `json:"loosening"`
}
