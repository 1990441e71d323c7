package main

// The reload over the admin socket: POST reloads, GET says what a reload would change. JSON.

import (
	"context"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/peer"
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

// reloads is what the admin socket needs of the *reloader.
type reloads interface {
	reload(ctx context.Context, by string, accept acceptance) (*reloadAnswer, error)
	preview(ctx context.Context) (*reloadAnswer, error)
	state() reloadState
}

// reloadAnswer is the answer of both methods.
type reloadAnswer struct {
	File            string           `json:"file"`                 // that was read
	Generation      int              `json:"generation,omitempty"` // now in effect; 0 in the answer to GET
	Changes         []reloadChange   `json:"changes"`
	WaitsForRestart []string         `json:"waitsForRestart"` // keys that are as they were until then
	Warnings        []string         `json:"warnings"`
	Took            hsm.Milliseconds `json:"tookMs,omitempty"`

	// What may be let in that was refused before, the digest of all changes with which an operator
	// accepts it, and whether one has to.
	Loosens []loosening `json:"loosens"`
	Digest  string      `json:"loosensDigest,omitempty"`
	Confirm bool        `json:"mustBeAccepted,omitempty"`
}

// reloadChange is a configChange in JSON.
type reloadChange struct {
	Key     string `json:"key"`
	Old     string `json:"old,omitempty"`
	New     string `json:"new,omitempty"`
	Restart bool   `json:"restart,omitempty"`
	Kind    string `json:"kind"` // added, removed or changed
}

// sign is how a change is shown: + for what is added, - for what is removed, ~ for what changes.
func (c reloadChange) sign() string {
	switch c.Kind {
	case added:
		return "+"
	case removed:
		return "-"
	}
	return "~"
}

// reloadNow reloads for an operator, who accepts that much of what it loosens.
func (a *admin) reloadNow(
	ctx context.Context,
	by peer.Peer,
	accept acceptance,
) (*reloadAnswer, error) {
	answer, err := a.reloads.reload(ctx, by.String()+" over the admin socket", accept)
	a.log.Info("admin", zap.String("order", "reload"), zap.Inline(by),
		zap.String("result", resultOf(err)), zap.String("accept_loosening", string(accept)))
	return answer, err
}
