package server

// The HTTP servers of serve: the HTTPS ports for AWS KMS, and beside them the health port, the
// metrics and the admin socket, which answer from before the HSMs have started.

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/metrics"
	"xks-proxy/internal/peer"
	"xks-proxy/internal/version"
	"xks-proxy/pkg/xks/listener"
)

// servers are the HTTP servers and their handlers.
type servers struct {
	parts     *parts
	listeners *listeners
	health    *health
	plain     *http.Server
	metrics   *http.Server
	admin     *http.Server
	few       map[string]*socket.FewConnections // by listener
	broken    chan error                        // of a listener
}

const (
	maxHeaderBytes = 64 << 10

	healthHeaderTimeout = 5 * time.Second // for the header of a probe
	healthIdleTimeout   = 2 * time.Minute // above the usual intervals of probes and scrapes

	writeTimeout  = 10 * time.Second // for a client that does not read its answer
	serversBeside = 3

	// maxStreams bounds what one HTTP/2 connection has the proxy do at once; a client with more to
	// ask opens another.
	maxStreams   = 100
	maxReadFrame = 16 << 10  // bytes; a connection keeps a buffer of the longest
	maxUnread    = 256 << 10 // bytes of bodies that a connection may send before they are read
)

func newServers(p *parts, l *listeners) *servers {
	c := p.config.Server
	s := &servers{
		parts:     p,
		listeners: l,
		health:    newHealth(p.groupList),
		broken:    make(chan error, len(l.ports)+serversBeside),
	}
	s.few = map[string]*socket.FewConnections{
		metrics.ListenerHealth: socket.NewFewConnections(
			metrics.ListenerHealth,
			l.budget.health,
			p.log,
		),
		metrics.ListenerAdmin: socket.NewFewConnections(
			metrics.ListenerAdmin,
			l.budget.admin,
			p.log,
		),
		metrics.ListenerMetrics: socket.NewFewConnections(
			metrics.ListenerMetrics,
			l.budget.metrics,
			p.log,
		),
	}
	allowed := socket.NewOutsiders(p.log)
	view := s.view(allowed)
	s.admin = socket.NewServer(admin.New(view), allowed, peer.NewNames(peer.SystemName))
	s.admin.ConnState = s.few[metrics.ListenerAdmin].ConnState
	shown := metrics.Handler(metrics.Sources{Config: view, Besides: s.besides, TLS: p.tls})
	s.metrics = s.newMetricsServer(shown)
	s.plain = &http.Server{
		Handler:           s.health.plain(p.config, shown),
		ReadHeaderTimeout: healthHeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       min(c.IdleTimeout, healthIdleTimeout),
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         s.few[metrics.ListenerHealth].ConnState,
		ErrorLog:          p.opened.Quiet(),
	}
	return s
}

// view is what the operator's service sees.
func (s *servers) view(allowed *socket.Outsiders) admin.Config {
	p, l := s.parts, s.listeners
	return admin.Config{
		Log: p.log, Since: p.since,
		Groups: p.fleet.Groups, Processes: p.fleet.Processes, Turns: &p.fleet.Turns,
		Reloads: p.reloader, Kill: p.kill, Uses: p.uses, Running: p.running,
		KeyStores: p.keyStores, Handler: p.handlerStatus, Ready: s.health.verdict,
		Connections: func() api.ConnectionCounts {
			return api.ConnectionCounts{
				Open: l.api.Open(), Refused: l.api.Refused(), CutOff: l.api.CutOff(),
				Headers: l.api.Headers(),
			}
		},
		Certificates: p.tls.Certificates, LogState: p.opened.State,
		Confinement: p.fleet.Confinements, Refused: allowed.Refused.Load,
	}
}

// besides counts the connections of these listeners that were closed because there were too many.
func (s *servers) besides() map[string]int64 {
	counts := map[string]int64{}
	for name, few := range s.few {
		counts[name] = few.Closed.Load()
	}
	return counts
}

// newAPI is the server for AWS KMS, on all HTTPS ports; the handler is there once the HSMs are.
func (s *servers) newAPI() *http.Server {
	c := s.parts.config.Server
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(c.HTTP2)
	return &http.Server{
		Handler:   s.health.before(s.parts.served.Load()),
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxReadFrame,
			MaxReceiveBufferPerConnection: maxUnread, MaxReceiveBufferPerStream: maxUnread},
		ReadHeaderTimeout: c.ReadHeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.ReadTimeout + writeTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       listener.ConnContext,
		ConnState:         s.connState,
		ErrorLog:          s.parts.opened.Quiet(),

		DisableGeneralOptionsHandler: true, // "OPTIONS *" gets JSON as well (requirement U12)
	}
}

func (s *servers) connState(c net.Conn, state http.ConnState) {
	s.parts.tls.Handshakes.ConnState(c, state)
	listener.ConnState(c, state)
}

// serveAPI serves every HTTPS port, each with its own rule about client certificates.
func (s *servers) serveAPI(api *http.Server) {
	for _, port := range s.listeners.ports {
		secure := tls.NewListener(port, s.parts.tls.Config(port.address))
		go func() { s.broken <- api.Serve(secure) }()
	}
}

// serveBeside lets the health port, the metrics and the admin socket answer. HSMs may take long to
// start: without an answer about liveness meanwhile, a container platform would end the program.
func (s *servers) serveBeside() {
	fields := []zap.Field{zap.String("version", version.Get().Version)}
	if s.listeners.health != nil {
		go func() { s.broken <- s.plain.Serve(s.listeners.health) }()
		fields = append(fields, zap.Stringer("health", s.listeners.health.Addr()))
	}
	if s.listeners.metrics != nil {
		go func() { s.broken <- s.serveMetrics() }()
		fields = append(fields, zap.Stringer("metrics", s.listeners.metrics.Addr()))
	}
	if s.listeners.admin != nil {
		go func() { s.broken <- s.admin.Serve(s.listeners.admin) }()
		fields = append(fields, zap.String("admin", s.parts.config.Admin.Socket))
	}
	s.parts.log.Info("starting", fields...)
}

// closeBeside ends what serveBeside began; a second time is harmless.
func (s *servers) closeBeside() {
	_ = s.plain.Close() // probes of load balancers need no farewell
	_ = s.metrics.Close()
	_ = s.admin.Close()
}

// run serves until ctx ends or a listener breaks.
func (s *servers) run(ctx context.Context) error {
	s.parts.tls.LogFirstValidity() // before the last line of the start
	go s.parts.tls.WatchValidity(ctx)
	api := s.newAPI()
	s.serveAPI(api)
	s.health.serving.Store(true)
	s.announce()
	select {
	case err := <-s.broken:
		return fmt.Errorf("a listener broke: %w", err)
	case <-ctx.Done():
	}
	return s.drain(api)
}

// drain is the order of an end that no request notices (requirement R5): readiness reports not
// ready, load balancers turn away, the ports close, and requests in flight are answered.
func (s *servers) drain(api *http.Server) error {
	c := s.parts.running().Server
	log := s.parts.log
	log.Info(
		"draining",
		zap.Duration("delay", c.DrainDelay),
		zap.Duration("timeout", c.DrainTimeout),
	)
	s.health.draining.Store(true)
	time.Sleep(c.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), c.DrainTimeout)
	defer cancel()
	err := api.Shutdown(ctx)
	if err != nil {
		log.Warn("requests were still in flight when the drain timeout ended")
		_ = api.Close() // connections that are left are closed
	}
	s.closeBeside()
	log.Info("stopped")
	return nil
}
