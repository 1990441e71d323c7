package admin

// The reload over the admin socket: POST reloads, GET says what a reload would change. JSON.

import (
	"context"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/peer"
)

// reloads is what the admin socket needs of the *reloader.
type reloads interface {
	Reload(ctx context.Context, by string, accept api.Acceptance) (*api.ReloadAnswer, error)
	Preview(ctx context.Context) (*api.ReloadAnswer, error)
	State() api.ReloadState
}

// Reload reloads for an operator, who accepts that much of what it loosens.
func (a *Service) Reload(
	ctx context.Context,
	by peer.Peer,
	accept api.Acceptance,
) (*api.ReloadAnswer, error) {
	answer, err := a.Reloads.Reload(ctx, by.String()+" over the admin socket", accept)
	a.Log.Info("admin", zap.String("order", "reload"), zap.Inline(by),
		zap.String("result", resultOf(err)), zap.String("accept_loosening", string(accept)))
	return answer, err
}
