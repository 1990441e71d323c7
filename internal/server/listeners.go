package server

// The ports and the socket that serve takes.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/config"
	"xks-proxy/pkg/xks/listener"
)

// listeners are the ports, taken before anything else is started, so that a port
// that is in use ends the program at once.
type listeners struct {
	budget  fileBudget
	api     *listener.Listener // server.listen
	ports   []apiPort          // all HTTPS ports, that one first
	health  net.Listener       // nil if not configured
	metrics net.Listener       // likewise
	admin   net.Listener       // likewise
}

// resolveWait is how long a start waits for the address of a host name to listen on.
const resolveWait = 10 * time.Second

// apiPort is one HTTPS port, below TLS.
type apiPort struct {
	*listener.Listener
	address string // as the configuration has it
}

func listen(ctx context.Context, c *config.Config, log *zap.Logger) (*listeners, error) {
	l := &listeners{budget: openFiles(c.Server.MaxConnections, log)}
	for _, place := range c.ListenerPlaces() {
		port, err := listenTCP(ctx, place.Address, place.Listen, c.Server.TCPKeepAlive)
		if err != nil {
			l.close()
			return nil, err
		}
		if l.api == nil {
			l.api = listener.New(port, l.budget.connections, log)
			l.ports = append(l.ports, apiPort{l.api, place.Listen})
			continue
		}
		l.ports = append(l.ports, apiPort{l.api.WithSharedLimits(port), place.Listen})
	}
	l.apply(c)
	err := l.listenBeside(ctx, c, log)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// apply puts into effect, for new connections, what a reload can change about the HTTPS ports. A
// port that c does not have goes on as it is: ports are closed at the next start only.
func (l *listeners) apply(c *config.Config) {
	l.api.SetMaxBody(c.Server.MaxBody)
	for _, place := range c.ListenerPlaces() {
		for _, port := range l.ports {
			if port.address == place.Listen {
				port.Trust(place.ProxyProtocol.Sources(), c.Server.ReadHeaderTimeout)
			}
		}
	}
}

// addresses are those of the HTTPS ports beside server.listen.
func (l *listeners) addresses() []string {
	var all []string
	for _, port := range l.ports[1:] {
		all = append(all, port.Addr().String())
	}
	return all
}

// listenBeside takes the port and the socket that are not for AWS KMS.
func (l *listeners) listenBeside(ctx context.Context, c *config.Config, log *zap.Logger) error {
	if c.Health.Listen != "" {
		health, err := listenTCP(ctx, "health.listen", c.Health.Listen, c.Server.TCPKeepAlive)
		if err != nil {
			return err
		}
		l.health = health
	}
	if c.Metrics.Listen != "" {
		metrics, err := listenTCP(ctx, "metrics.listen", c.Metrics.Listen, c.Server.TCPKeepAlive)
		if err != nil {
			return err
		}
		l.metrics = metrics
	}
	if c.Admin.Socket != "" {
		admin, err := socket.Listen(ctx, c.Admin, c.StateDirectory, log)
		if err != nil {
			return err
		}
		l.admin = admin
	}
	return nil
}

func listenTCP(
	ctx context.Context,
	key, address string,
	keepAlive time.Duration,
) (net.Listener, error) {
	lc := net.ListenConfig{
		KeepAliveConfig: net.KeepAliveConfig{
			Enable:   true,
			Idle:     keepAlive,
			Interval: keepAlive / 4,
		},
	}
	ctx, cancel := context.WithTimeout(ctx, resolveWait)
	defer cancel()
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf(
			"%s: cannot resolve the host name in %s within %s: use an address",
			key,
			address,
			resolveWait,
		)
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf(
			"%s: another program listens on %s already; stop it or choose another port",
			key,
			address,
		)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf(
			"%s: not allowed to listen on %s; ports below 1024 need CAP_NET_BIND_SERVICE",
			key,
			address,
		)
	case err != nil:
		return nil, fmt.Errorf("%s: cannot listen on %s: %w", key, address, err)
	}
	return l, nil
}

func (l *listeners) close() {
	for _, port := range l.ports {
		_ = port.Close() // closed already after a regular end
	}
	for _, beside := range []net.Listener{l.health, l.admin, l.metrics} {
		if beside != nil {
			_ = beside.Close()
		}
	}
}
