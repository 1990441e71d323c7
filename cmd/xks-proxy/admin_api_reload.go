package main

// A reload, or what one would change: what it accepts, what it answers, and what earlier reloads
// may have let in.

import (
	"fmt"
	"strings"
	"time"
	"xks-proxy/pkg/hsm"
)

// adminReloadPath has one parameter, acceptQuery, for POST. A reload takes as long as the HSMs that
// it
// starts, and the commands that give secrets.
const adminReloadPath = "/v1/reload"

// acceptQuery is what of the protection the reload may take away: any, or what has a digest.
const acceptQuery = "accept-loosening"

// reloadPatience is how long a command waits for the answer.
const reloadPatience = 2 * time.Minute

// reloadAnswer is the answer of both methods.
type reloadAnswer struct {
	File            string           `json:"file"`                 // that was read
	Generation      int              `json:"generation,omitempty"` // now in effect; 0 in the answer to GET
	Changes         []configChange   `json:"changes"`
	WaitsForRestart []string         `json:"waitsForRestart"` // keys that are as they were until then
	Warnings        []string         `json:"warnings"`
	Took            hsm.Milliseconds `json:"tookMs,omitempty"`

	// What may be let in that was refused before, the digest of all changes with which an operator
	// accepts it, and whether one has to.
	Loosens []loosening `json:"loosens"`
	Digest  string      `json:"loosensDigest,omitempty"`
	Confirm bool        `json:"mustBeAccepted,omitempty"`
}

// acceptance is what an order to reload accepts: nothing, anything, or what was shown with this
// digest.
type acceptance string

const (
	acceptNothing acceptance = ""
	acceptAny     acceptance = "any"
)

// maxShownLoosenings bounds what an error and the log name; the answers in JSON have all.
const maxShownLoosenings = 20

func acceptCommand(digest string) string {
	return "xks-proxy reload --accept-loosening=" + digest
}

func shownLoosenings(all []loosening) []string {
	var lines []string
	for _, one := range all[:min(len(all), maxShownLoosenings)] {
		lines = append(lines, one.String())
	}
	if more := len(all) - maxShownLoosenings; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more: see xks-proxy config diff --json", more))
	}
	return lines
}

// looseningState is what reloads have loosened, for status and metrics.
type looseningState struct {
	// What the last reload loosened that loosened something, and whether an operator accepted that,
	// then or since.
	Loosens  []loosening `json:"loosens"`
	At       time.Time   `json:"at,omitzero"`
	By       string      `json:"by,omitempty"`
	Accepted bool        `json:"accepted,omitempty"`

	// What the last try would have loosened and was refused for.
	Refused []loosening `json:"refused,omitempty"`
	Digest  string      `json:"refusedDigest,omitempty"`

	taken map[looseningCount]int
}

// looseningCount is one line of the metric.
type looseningCount struct {
	setting  string
	accepted bool
}

// someLoosenings are the first of them in one line.
func someLoosenings(all []loosening) string {
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
