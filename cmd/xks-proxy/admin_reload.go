package main

// The reload over the admin socket: POST reloads, GET says what a reload would change. JSON.

import (
	"context"

	"go.uber.org/zap"

	"xks-proxy/internal/peer"
)

// reloads is what the admin socket needs of the *reloader.
type reloads interface {
	reload(ctx context.Context, by string, accept acceptance) (*reloadAnswer, error)
	preview(ctx context.Context) (*reloadAnswer, error)
	state() reloadState
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
