package main

// The ports and the socket that serve takes.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/xks"
)

// listeners are the ports, taken before anything else is started, so that a port
// that is in use ends the program at once.
type listeners struct {
	api    *xks.Listener
	health net.Listener // nil if not configured
	admin  net.Listener // likewise
}

func listen(ctx context.Context, c *config, log *zap.Logger) (*listeners, error) {
	api, err := listenTCP(ctx, "server.listen", c.Server.Listen, c.Server.TCPKeepAlive)
	if err != nil {
		return nil, err
	}
	l := &listeners{api: xks.NewListener(api, c.Server.MaxConnections, log)}
	l.api.LimitBody(c.Server.MaxBody)
	err = l.listenBeside(ctx, c, log)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// listenBeside takes the port and the socket that are not for AWS KMS.
func (l *listeners) listenBeside(ctx context.Context, c *config, log *zap.Logger) error {
	if c.Health.Listen != "" {
		health, err := listenTCP(ctx, "health.listen", c.Health.Listen, c.Server.TCPKeepAlive)
		if err != nil {
			return err
		}
		l.health = health
	}
	if c.Admin.Socket != "" {
		admin, err := listenAdmin(c.Admin, log)
		if err != nil {
			return err
		}
		l.admin = admin
	}
	return nil
}

func listenTCP(ctx context.Context, key, address string, keepAlive time.Duration) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 4}}
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: another program listens on %s already; stop it or choose another port", key, address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("%s: not allowed to listen on %s; ports below 1024 need CAP_NET_BIND_SERVICE", key, address)
	case err != nil:
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", key, address, err)
	}
	return l, nil
}

func (l *listeners) close() {
	_ = l.api.Close() // closed already after a regular end
	if l.health != nil {
		_ = l.health.Close()
	}
	if l.admin != nil {
		_ = l.admin.Close()
	}
}
