package main

// The reload over the admin socket: POST reloads, GET says what a reload would change. JSON.

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"
)

// adminReloadPath has one parameter, acceptQuery, for POST. A reload takes as long as the HSMs that it starts, and the commands that give secrets.
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
	File            string         `json:"file"`                 // that was read
	Generation      int            `json:"generation,omitempty"` // now in force; 0 in the answer to GET
	Changes         []reloadChange `json:"changes"`
	WaitsForRestart []string       `json:"waitsForRestart"` // keys that are as they were until then
	Warnings        []string       `json:"warnings"`
	Loosens         []loosening    `json:"loosens"`                  // what may be let in that was refused before
	Digest          string         `json:"loosensDigest,omitempty"`  // names what changes, to accept it
	Confirm         bool           `json:"mustBeAccepted,omitempty"` // a reload refuses that unless it is accepted
	Took            time.Duration  `json:"took,omitempty"`           // nanoseconds
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

// routeReload is the part of the router that is about reloads.
func (a *admin) routeReload(r chi.Router) {
	if a.reloads == nil {
		return
	}
	r.Get(adminReloadPath, func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.reloads.preview(r.Context())
		writeReload(w, answer, err)
	})
	r.Post(adminReloadPath, func(w http.ResponseWriter, r *http.Request) {
		by := peerOf(r.Context())
		answer, err := a.reloads.reload(r.Context(), by.String()+" over the admin socket", acceptance(r.URL.Query().Get(acceptQuery)))
		result := "done"
		if err != nil {
			result = err.Error()
		}
		a.log.Info("admin", zap.String("order", "reload"), zap.Inline(by), zap.String("result", result),
			zap.String("accept_loosening", r.URL.Query().Get(acceptQuery)))
		writeReload(w, answer, err)
	})
}

// writeReload: 409 for a call that did not have its turn, 422 for a configuration that is not good.
func writeReload(w http.ResponseWriter, answer *reloadAnswer, err error) {
	switch {
	case err == nil:
		writeAdmin(w, http.StatusOK, answer)
	case errors.Is(err, errUnderWay), errors.Is(err, errStarting):
		writeAdmin(w, http.StatusConflict, adminAnswer{Error: err.Error()})
	default:
		writeAdmin(w, http.StatusUnprocessableEntity, adminAnswer{Error: err.Error()})
	}
}
