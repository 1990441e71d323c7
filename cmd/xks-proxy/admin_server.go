package main

// The server behind the admin socket: who may open the socket may do everything
// here. Each call that changes something is one line of the log, with who made it.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
)

const (
	adminHeaderTimeout = 5 * time.Second
	adminIdleTimeout   = 10 * time.Second
	adminMaxHeader     = 8 << 10 // bytes
	adminMaxWait       = 10 * time.Minute
	adminWait          = 30 * time.Second // without a timeout in the query
)

// newAdminServer has no timeout for answers: they come when an HSM is drained.
func newAdminServer(a *admin) *http.Server {
	quiet, err := zap.NewStdLogAt(a.log, zap.DebugLevel)
	if err != nil {
		panic(err) // zap knows the level
	}
	return &http.Server{
		Handler: a.outsiders.only(a.router()), ConnContext: withCaller(a.names), ErrorLog: quiet,
		ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminMaxHeader,
	}
}

func (a *admin) router() http.Handler {
	r := chi.NewRouter()
	r.Get(adminListPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.status()) })
	r.Post(adminDrainPath, a.changing("drain", a.inTurn("a drain", a.drain)))
	r.Post(adminResumePath, a.changing("resume", a.inTurn("a resume", a.resume)))
	r.Post(adminRestartPath, a.changing("restart", a.inTurn("a restart", a.restart)))
	r.Get(adminBlocksPath, func(w http.ResponseWriter, _ *http.Request) { writeAdmin(w, http.StatusOK, a.blockList()) })
	r.Post(adminBlocksPath, a.blocking("block", a.block))
	r.Delete(adminBlocksPath, a.blocking("unblock", a.unblock))
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

// adminOrder is one call that changes something.
type adminOrder struct {
	HSM   string
	Force bool
	By    peer
}

// changing reads the order, has it carried out and logs who gave it and what came of it.
func (a *admin) changing(name string, do func(context.Context, adminOrder) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		order := adminOrder{HSM: chi.URLParam(r, "name"), By: peerOf(r.Context())}
		wait, err := readOrder(r, &order)
		if err != nil {
			writeAdmin(w, http.StatusBadRequest, adminAnswer{Error: err.Error()})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), wait)
		defer cancel()
		message, err := do(ctx, order)
		result := "done"
		if err != nil {
			result = err.Error()
		}
		a.log.Info("admin", zap.String("order", name), zap.String("hsm", order.HSM), zap.Bool("force", order.Force),
			zap.Inline(order.By), zap.String("result", result))
		if err != nil {
			writeAdmin(w, statusOf(err), adminAnswer{Error: err.Error()})
			return
		}
		writeAdmin(w, http.StatusOK, adminAnswer{Message: message})
	}
}

// inTurn carries out an order when no other is under way for its HSM. Waiting is part of
// the time that the order has.
func (a *admin) inTurn(what string, do func(context.Context, adminOrder) (string, error)) func(context.Context, adminOrder) (string, error) {
	return func(ctx context.Context, o adminOrder) (string, error) {
		if a.starting() {
			return "", &adminRefusal{errStarting, "the proxy is still starting and waits for its HSMs: nothing was changed; ask again in a moment, and see xks-proxy hsm list"}
		}
		end, err := a.turns.take(ctx, o.HSM, what+" by "+o.By.String())
		if err != nil {
			return "", err
		}
		defer end()
		err = callerGone(ctx) // it may have waited long for its turn
		if err != nil {
			return "", err
		}
		return do(ctx, o)
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
	case errors.Is(err, hsm.ErrUnknownHSM), errors.Is(err, errUnknownKeyStore), errors.Is(err, errUnknownName):
		return http.StatusNotFound
	case errors.Is(err, hsm.ErrLastHSM), errors.Is(err, errUnderWay), errors.Is(err, errStarting), errors.Is(err, errStaysBlocked), errors.Is(err, errTooManyBlocks):
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
