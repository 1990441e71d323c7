package server

// Liveness and readiness for load balancers (requirement H5). The answers name
// no key store and no HSM.

import (
	"io"
	"net/http"
	"sync/atomic"

	"github.com/go-chi/chi/v5"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

const (
	livePath    = "/healthz/live"
	readyPath   = "/healthz/ready"
	MetricsPath = "/metrics" // of the health port or of metrics.listen, never of the HTTPS ports
)

// health answers load balancers.
type health struct {
	router   *chi.Mux
	groups   func() []*group.Group
	serving  atomic.Bool // false while the proxy starts
	draining atomic.Bool
}

func newHealth(groups func() []*group.Group) *health {
	h := &health{router: chi.NewRouter(), groups: groups}
	h.router.Get(livePath, func(w http.ResponseWriter, _ *http.Request) {
		answerHealth(w, http.StatusOK, "live")
	})
	h.router.Get(readyPath, func(w http.ResponseWriter, _ *http.Request) {
		status, verdict := http.StatusServiceUnavailable, h.verdict()
		if verdict == api.ReadyVerdict {
			status = http.StatusOK
		}
		answerHealth(w, status, verdict)
	})
	return h
}

// verdict is whether the proxy serves, or in a few words why it does not.
func (h *health) verdict() string {
	switch {
	case h.draining.Load():
		return "draining"
	case !h.serving.Load():
		return "starting"
	case !h.canServe():
		return "no HSM can serve"
	default:
		return api.ReadyVerdict
	}
}

// canServe: while one group can, taking the whole proxy away would fail its key stores too.
func (h *health) canServe() bool {
	for _, group := range h.groups() {
		if group.CanServe() {
			return true
		}
	}
	return false
}

// before serves the health paths over HTTPS as well, and leaves all else to next,
// whose refusals are JSON (requirement U12).
func (h *health) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && (r.RequestURI == livePath || r.RequestURI == readyPath) {
			xks.CloseIfAmbiguous(w, r)
			h.router.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// plain serves the health paths, and the metrics where the configuration wants them here.
func (h *health) plain(c *config.Config, metrics http.Handler) http.Handler {
	if !c.Health.Metrics {
		return h.router
	}
	r := chi.NewRouter()
	r.Mount("/", h.router)
	r.Method(http.MethodGet, MetricsPath, metrics)
	return r
}

func answerHealth(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"status":"`+text+`"}`) // a client that is gone needs no answer
}
