package api

// A reload, or what one would change: what it accepts, what it answers, and what earlier reloads
// may have let in.

import (
	"fmt"
	"strings"
	"time"

	"xks-proxy/internal/config"
	"xks-proxy/internal/loosening"
	"xks-proxy/pkg/hsm"
)

// ReloadPath has one parameter, AcceptQuery, for POST. A reload takes as long as the HSMs that it
// starts, and the commands that give secrets.
const ReloadPath = "/v1/reload"

// AcceptQuery is what of the protection the reload may take away: any, or what has a digest.
const AcceptQuery = "accept-loosening"

// reloadPatience is how long a command waits for the answer.
const reloadPatience = 2 * time.Minute

// ReloadAnswer is the answer of both methods.
type ReloadAnswer struct {
	File            string           `json:"file"`                 // that was read
	Generation      int              `json:"generation,omitempty"` // now in effect; 0 in the answer to GET
	Changes         []config.Change  `json:"changes"`
	WaitsForRestart []string         `json:"waitsForRestart"` // keys that are as they were until then
	Warnings        []string         `json:"warnings"`
	Took            hsm.Milliseconds `json:"tookMs,omitempty"`

	// What may be let in that was refused before, the digest of all changes with which an operator
	// accepts it, and whether one has to.
	Loosens []loosening.Loosening `json:"loosens"`
	Digest  string                `json:"loosensDigest,omitempty"`
	Confirm bool                  `json:"mustBeAccepted,omitempty"`
}

// Acceptance is what an order to reload accepts: nothing, anything, or what was shown with this
// digest.
type Acceptance string

const (
	AcceptNothing Acceptance = ""
	AcceptAny     Acceptance = "any"
)

// maxShownLoosenings bounds what an error and the log name; the answers in JSON have all.
const maxShownLoosenings = 20

// AcceptCommand is the command line that accepts the changes with a digest.
func AcceptCommand(digest string) string {
	return "xks-proxy reload --accept-loosening=" + digest
}

// ShownLoosenings are the changes as texts, a bounded number of them.
func ShownLoosenings(all []loosening.Loosening) []string {
	var lines []string
	for _, one := range all[:min(len(all), maxShownLoosenings)] {
		lines = append(lines, one.String())
	}
	if more := len(all) - maxShownLoosenings; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: see xks-proxy config diff --json", more))
	}
	return lines
}

// LooseningState is what reloads have loosened, for status and metrics.
type LooseningState struct {
	// What the last reload loosened that loosened something, and whether an operator accepted that,
	// then or since.
	Loosens  []loosening.Loosening `json:"loosens"`
	At       time.Time             `json:"at,omitzero"`
	By       string                `json:"by,omitempty"`
	Accepted bool                  `json:"accepted,omitempty"`

	// What the last try would have loosened and was refused for.
	Refused []loosening.Loosening `json:"refused,omitempty"`
	Digest  string                `json:"refusedDigest,omitempty"`

	Taken map[LooseningCount]int `json:"-"`
}

// LooseningCount is one line of the metric.
type LooseningCount struct {
	Setting  string
	Accepted bool
}

// SomeLoosenings are the first of them in one line.
func SomeLoosenings(all []loosening.Loosening) string {
	const shown = 3
	var texts []string
	for _, one := range all[:min(len(all), shown)] {
		texts = append(texts, one.String())
	}
	if more := len(all) - shown; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}
