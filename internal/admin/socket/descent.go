package socket

// Processes that descend from the proxy may not give it orders: a vendor's library runs in one, as
// the proxy's user, and could otherwise take back what operators have blocked. Landlock before
// ABI 9 does not keep a process from connecting to a Unix socket by its path, so the proxy looks.
//
// The proxy adopts what its children leave behind (adopt_orphans.go), so a process cannot get rid
// of its descent by a fork whose parent ends.

import (
	"errors"
	"net/http"
	"sync/atomic"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/peer"
)

// Outsiders refuses processes that descend from the proxy at the admin API.
type Outsiders struct {
	peer.Ancestry
	log     *zap.Logger
	Refused atomic.Int64
}

// NewOutsiders refuses the descendants of this process.
func NewOutsiders(log *zap.Logger) *Outsiders {
	return &Outsiders{Ancestry: peer.NewAncestry(), log: log}
}

// only lets through who may give orders. Each refusal is a line of the log and counts.
func (o *Outsiders) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := peer.Descent(r.Context(), o.Ancestry)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		if !errors.Is(err, peer.ErrGone) {
			o.Refused.Add(1)
			o.log.Error("a process was refused at the admin socket; "+
				"if it is that of an HSM, its library is hostile",
				zap.String("method", r.Method), zap.String("path", r.URL.Path),
				zap.Inline(who), zap.Error(err))
		}
		writeAdmin(w, http.StatusForbidden,
			api.Answer{Error: "this process may not use the admin socket: " + err.Error()})
	})
}
