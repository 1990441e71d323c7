package socket

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

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm/group"
)

const (
	adminHeaderTimeout = 5 * time.Second
	adminIdleTimeout   = 10 * time.Second
	adminMaxHeader     = 8 << 10 // bytes
	MaxWait            = 10 * time.Minute
	Wait               = 30 * time.Second // without a timeout in the query
)

// NewServer serves a to the processes that allowed lets in. names looks up the users who give
// orders. The server has no timeout for answers, because an order to drain ends when the HSM is
// drained.
func NewServer(a *admin.Service, allowed *Outsiders, names *peer.Names) *http.Server {
	quiet, err := zap.NewStdLogAt(a.Log, zap.DebugLevel)
	if err != nil {
		panic(err) // zap knows the level
	}
	return &http.Server{
		Handler:     allowed.only(Routes{a}.Handler()),
		ConnContext: peer.Context(names), ErrorLog: quiet,
		ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminMaxHeader,
	}
}

// Routes answers HTTP with what the service says.
type Routes struct{ *admin.Service }

// Handler routes the paths of package api.
func (a Routes) Handler() http.Handler {
	r := chi.NewRouter()
	r.Get(
		api.ListPath,
		func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.HSMs()) },
	)
	r.Post(api.DrainPath, a.changing(a.Drain))
	r.Post(api.ResumePath, a.changing(a.Resume))
	r.Post(api.RestartPath, a.changing(a.Restart))
	r.Get(
		api.BlocksPath,
		func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.Blocks()) },
	)
	r.Post(api.BlocksPath, a.blocking(a.Block))
	r.Delete(api.BlocksPath, a.blocking(a.Unblock))
	r.Get(
		api.StatusPath,
		func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.Status(time.Now())) },
	)
	r.Get(
		api.CredentialsPath,
		func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.Credentials()) },
	)
	a.routeReload(r)
	a.routeKeys(r)
	r.NotFound(func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(w, http.StatusNotFound, api.Answer{Error: "the admin API has no such path"})
	})
	r.MethodNotAllowed(func(w http.ResponseWriter, _ *http.Request) {
		writeAdmin(
			w,
			http.StatusMethodNotAllowed,
			api.Answer{Error: "the admin API does not allow this method here"},
		)
	})
	return r
}

// changing reads an order and has it carried out.
func (a Routes) changing(do func(context.Context, admin.Order) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order := admin.Order{HSM: chi.URLParam(r, "name"), By: peer.Of(r.Context())}
		wait, err := readOrder(r, &order)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, api.Answer{Error: err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		message, err := do(ctx, order)
		if err != nil {
			writeAdmin(w, StatusOf(err), api.Answer{Error: err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, api.Answer{Message: message})
	}
}

// readOrder reads the query and returns how long the caller wants to wait.
func readOrder(r *http.Request, order *admin.Order) (time.Duration, error) {
	query := r.URL.Query()
	wait := Wait
	var err error
	if text := query.Get("force"); text != "" {
		order.Force, err = strconv.ParseBool(text)
		if err != nil {
			return 0, fmt.Errorf("force is true or false, not %q", text)
		}
	}
	if text := query.Get("timeout"); text != "" {
		wait, err = time.ParseDuration(text)
		if err != nil || wait <= 0 || wait > MaxWait {
			return 0, fmt.Errorf("timeout is a duration of at most %v, not %q", MaxWait, text)
		}
	}
	return wait, nil
}

// StatusOf is for scripts: 404 for an HSM or key store that nobody knows, 409 for an order that was
// refused or leaves something blocked, 500 for one that would not survive a restart, 504 for one
// that was carried out without reaching its end in time.
func StatusOf(err error) int {
	switch {
	case errors.Is(err, group.ErrUnknownHSM),
		errors.Is(err, admin.ErrUnknownKeyStore),
		errors.Is(err, admin.ErrUnknownName):
		return http.StatusNotFound
	case errors.Is(err, group.ErrLastHSM),
		errors.Is(err, fleet.ErrUnderWay),
		errors.Is(err, admin.ErrStarting),
		errors.Is(err, admin.ErrStaysBlocked),
		errors.Is(err, killswitch.ErrTooManyBlocks):
		return http.StatusConflict
	case errors.Is(err, killswitch.ErrUnsaved):
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
func (a Routes) blocking(
	do func(context.Context, admin.BlockOrder) (string, error),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order, err := readBlockOrder(r)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, api.Answer{Error: err.Error()})
			return
		}
		message, err := do(r.Context(), order)
		if err != nil {
			writeAdmin(w, StatusOf(err), api.Answer{Error: err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, api.Answer{Message: message})
	}
}

func readBlockOrder(r *http.Request) (admin.BlockOrder, error) {
	query := r.URL.Query()
	o := admin.BlockOrder{
		BlockTarget: killswitch.BlockTarget{
			KeyStore: query.Get("key_store"),
			Key:      query.Get("key"),
		},
		Reason: query.Get("reason"), By: peer.Of(r.Context()),
	}
	if text := query.Get("force"); text != "" {
		var err error
		o.Force, err = strconv.ParseBool(text)
		if err != nil {
			return o, fmt.Errorf("force is true or false, not %q", text)
		}
	}
	err := o.Check()
	if err != nil {
		return o, err
	}
	return o, killswitch.CheckReason(o.Reason)
}

func (a Routes) routeKeys(r chi.Router) {
	r.Get(api.KeysPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer, err := a.Keys(
			api.KeyQuery{
				Group:    q.Get("group"),
				KeyStore: q.Get("key_store"),
				Label:    q.Get("label"),
				State:    q.Get("state"),
			},
		)
		switch {
		case errors.Is(err, path.ErrBadPattern):
			writeAdmin(w, http.StatusBadRequest, api.Answer{Error: err.Error()})
		case err != nil:
			writeAdmin(w, StatusOf(err), api.Answer{Error: err.Error()})
		default:
			writeAdmin(w, http.StatusOK, answer)
		}
	})
	r.Post(api.RefreshPath, a.changing(a.Refresh))
	r.Post(api.RefreshAllPath, a.changing(a.Refresh))
}

// routeReload is the part of the router that is about reloads.
func (a Routes) routeReload(r chi.Router) {
	r.Get(api.ReloadPath, func(w http.ResponseWriter, r *http.Request) {
		answer, err := a.Reloads.Preview(r.Context())
		writeReload(w, answer, err)
	})
	r.Post(api.ReloadPath, func(w http.ResponseWriter, r *http.Request) {
		accept := api.Acceptance(r.URL.Query().Get(api.AcceptQuery))
		answer, err := a.Reload(r.Context(), peer.Of(r.Context()), accept)
		writeReload(w, answer, err)
	})
}

// writeReload: 409 for a call that did not have its turn, 422 for a configuration that is not good.
func writeReload(w http.ResponseWriter, answer *api.ReloadAnswer, err error) {
	switch {
	case err == nil:
		writeAdmin(w, http.StatusOK, answer)
	case errors.Is(err, fleet.ErrUnderWay), errors.Is(err, admin.ErrStarting):
		writeAdmin(w, http.StatusConflict, api.Answer{Error: err.Error()})
	default:
		writeAdmin(w, http.StatusUnprocessableEntity, api.Answer{Error: err.Error()})
	}
}
