package main

// The server behind the admin socket: who may open the socket may do everything
// here. Each call that changes something is one line of the log, with who made it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm/group"
)

const (
	adminHeaderTimeout = 5 * time.Second
	adminIdleTimeout   = 10 * time.Second
	adminMaxHeader     = 8 << 10 // bytes
	adminMaxWait       = 10 * time.Minute
	adminWait          = 30 * time.Second // without a timeout in the query
)

// newAdminServer serves a to whom allowed lets in; names are of who gives orders. It has no timeout for
// answers: they come when an HSM is drained.
func newAdminServer(a *admin, allowed *outsiders, names *peer.Names) *http.Server {
	quiet, err := zap.NewStdLogAt(a.log, zap.DebugLevel)
	if err != nil {
		panic(err) // zap knows the level
	}
	return &http.Server{
		Handler:     allowed.only(adminRoutes{a}.handler()),
		ConnContext: peer.Context(names), ErrorLog: quiet,
		ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminMaxHeader,
	}
}

// adminRoutes answers HTTP with what the service says.
type adminRoutes struct{ *admin }

func (a adminRoutes) handler() http.Handler {
	r := chi.NewRouter()
	r.Get(adminListPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.status()) })
	r.Post(adminDrainPath, a.changing(a.drain))
	r.Post(adminResumePath, a.changing(a.resume))
	r.Post(adminRestartPath, a.changing(a.restart))
	r.Get(adminBlocksPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.blockList()) })
	r.Post(adminBlocksPath, a.blocking(a.block))
	r.Delete(adminBlocksPath, a.blocking(a.unblock))
	r.Get(adminStatusPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.proxyStatus(time.Now())) })
	r.Get(adminCredentialsPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.credentialList()) })
	a.routeReload(r)
	a.routeKeys(r)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(w, http.StatusNotFound, adminAnswer{Error: "the admin API has no such path"})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(w, http.StatusMethodNotAllowed, adminAnswer{Error: "the admin API does not know this method here"})
	})
	return r
}

// changing reads an order and has it carried out.
func (a adminRoutes) changing(do func(context.Context, adminOrder) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order := adminOrder{HSM: chi.URLParam(r, "name"), By: peer.Of(r.Context())}
		wait, err := readOrder(r, &order)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, adminAnswer{Error: err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		message, err := do(ctx, order)
		if err != nil {
			writeAdmin(w, statusOf(err), adminAnswer{Error: err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, adminAnswer{Message: message})
	}
}

// readOrder reads the query and tells how long the caller wants to wait.
func readOrder(r *http.Request, order *adminOrder) (time.Duration, error) {
	query := r.URL.Query()
	wait := adminWait
	var err error
	if text := query.Get("force"); text != "" {
		order.Force, err = strconv.ParseBool(text)
		if err != nil {
			return 0, fmt.Errorf("force is true or false, not %q", text)
		}
	}
	if text := query.Get("timeout"); text != "" {
		wait, err = time.ParseDuration(text)
		if err != nil || wait <= 0 || wait > adminMaxWait {
			return 0, fmt.Errorf("timeout is a duration of at most %v, not %q", adminMaxWait, text)
		}
	}
	return wait, nil
}

// statusOf is for scripts: 404 for an HSM or key store that nobody knows, 409 for an order that was
// refused or leaves something blocked, 500 for one that would not survive a restart, 504 for one that was
// carried out without reaching its end in time.
func statusOf(err error) int {
	switch {
	case errors.Is(err, group.ErrUnknownHSM), errors.Is(err, errUnknownKeyStore), errors.Is(err, errUnknownName):
		return http.StatusNotFound
	case errors.Is(err, group.ErrLastHSM), errors.Is(err, errUnderWay), errors.Is(err, errStarting), errors.Is(err, errStaysBlocked), errors.Is(err, errTooManyBlocks):
		return http.StatusConflict
	case errors.Is(err, errUnsaved):
		return http.StatusInternalServerError
	default:
		return http.StatusGatewayTimeout
	}
}

func writeAdmin(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // a caller that is gone needs no answer
}

// blocking is changing for the orders of the kill switch.
func (a adminRoutes) blocking(do func(context.Context, blockOrder) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order, err := readBlockOrder(r)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, adminAnswer{Error: err.Error()})
			return
		}
		message, err := do(r.Context(), order)
		if err != nil {
			writeAdmin(w, statusOf(err), adminAnswer{Error: err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, adminAnswer{Message: message})
	}
}

func readBlockOrder(r *http.Request) (blockOrder, error) {
	query := r.URL.Query()
	o := blockOrder{
		blockTarget: blockTarget{KeyStore: query.Get("key_store"), Key: query.Get("key")},
		Reason:      query.Get("reason"), By: peer.Of(r.Context()),
	}
	if text := query.Get("force"); text != "" {
		var err error
		o.Force, err = strconv.ParseBool(text)
		if err != nil {
			return o, fmt.Errorf("force is true or false, not %q", text)
		}
	}
	err := o.check()
	if err != nil {
		return o, err
	}
	return o, checkReason(o.Reason)
}

func (a adminRoutes) routeKeys(r chi.Router) {
	r.Get(adminKeysPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer, err := a.keys(keyQuery{Group: q.Get("group"), KeyStore: q.Get("key_store"), Label: q.Get("label"), State: q.Get("state")})
		switch {
		case errors.Is(err, path.ErrBadPattern):
			writeAdmin(w, http.StatusBadRequest, adminAnswer{Error: err.Error()})
		case err != nil:
			writeAdmin(w, statusOf(err), adminAnswer{Error: err.Error()})
		default:
			writeAdmin(w, http.StatusOK, answer)
		}
	})
	r.Post(adminRefreshPath, a.changing(a.refresh))
	r.Post(adminRefreshAllPath, a.changing(a.refresh))
}

// routeReload is the part of the router that is about reloads.
func (a adminRoutes) routeReload(r chi.Router) {
	r.Get(adminReloadPath, func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.reloads.preview(r.Context())
		writeReload(w, answer, err)
	})
	r.Post(adminReloadPath, func(w http.ResponseWriter, r *http.Request) {
		accept := acceptance(r.URL.Query().Get(acceptQuery))
		answer, err := a.reloadNow(r.Context(), peer.Of(r.Context()), accept)
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
