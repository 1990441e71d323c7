package main

// The serve command: start, serve, drain.

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"xks-proxy/pkg/hsm/worker"
	"xks-proxy/pkg/xks"
)

const serveLong = `serve answers AWS KMS over HTTPS until it is told to stop.

It starts one process for each HSM, logs in, lists the keys and probes every HSM
before it takes the first request. With one HSM of several away it serves from the
others and says so in the log. On SIGTERM or Ctrl-C it answers what is in flight and ends.`

func newServeCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:     "serve --config FILE",
		Short:   "Serve AWS KMS",
		Long:    serveLong,
		Example: "  xks-proxy serve --config /etc/xks-proxy/xks-proxy.yaml",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := configPath(path)
			if err != nil {
				return err
			}
			return serve(c.Context(), file)
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file (or set XKS_CONFIG)")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	return c
}

// serve runs the proxy until ctx ends.
func serve(ctx context.Context, file string) error {
	tuneMemory()
	signal.Ignore(syscall.SIGPIPE) // of a log whose reader is gone
	if err := worker.ForbidDumps(); err != nil {
		return err // PINs and secrets are in this process's memory
	}
	c, warnings, err := loadConfig(file)
	if err != nil {
		return err
	}
	secrets, more, err := resolveSecrets(ctx, c)
	if err != nil {
		return err
	}
	certificate, err := readCertificate(c.Server.TLS)
	if err != nil {
		return err
	}
	log, flush, err := newLogger(c.Log)
	if err != nil {
		return err
	}
	defer flush()
	for _, w := range append(warnings, more...) {
		log.Warn("configuration", zap.String("warning", w.String()))
	}
	err = checkStateDirectory(c.StateDirectory)
	if err != nil {
		return err
	}
	listeners, err := listen(ctx, c, log)
	if err != nil {
		return err
	}
	defer listeners.close()
	p, err := assemble(ctx, c, secrets, log)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("told to stop before it began to serve")
	}
	if err != nil {
		return err
	}
	defer p.stop()
	ignoreHangup(log)
	s := newServers(p, certificate, listeners)
	return s.run(ctx)
}

// ignoreHangup keeps a closing terminal from ending the proxy.
func ignoreHangup(log *zap.Logger) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			log.Warn("SIGHUP ignored: this version reads its configuration at start only")
		}
	}()
}

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

// servers are the HTTP servers and what stands behind them.
type servers struct {
	parts     *parts
	listeners *listeners
	health    *health
	api       *http.Server
	plain     *http.Server
	admin     *http.Server
}

const (
	maxHeaderBytes = 64 << 10
	writeTimeout   = 10 * time.Second // for a client that does not read its answer
)

func newServers(p *parts, certificate tls.Certificate, l *listeners) *servers {
	c := p.config.Server
	s := &servers{parts: p, listeners: l, health: newHealth(p.groupList()), admin: newAdminServer(newAdmin(p))}
	quiet, err := zap.NewStdLogAt(p.log, zap.DebugLevel) // failed handshakes and broken requests: anyone can make these
	if err != nil {
		panic(err) // zap knows the level
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(c.HTTP2)
	s.api = &http.Server{
		Handler:           s.health.before(p.handler),
		TLSConfig:         newTLSConfig(certificate),
		Protocols:         protocols,
		ReadHeaderTimeout: c.ReadHeaderTimeout,
		ReadTimeout:       c.ReadTimeout,
		WriteTimeout:      c.ReadTimeout + writeTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       xks.ConnContext,
		ConnState:         xks.ConnState,
		ErrorLog:          quiet,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" gets JSON as well (requirement U12)
	}
	s.plain = &http.Server{
		Handler: s.health.plain(p), ReadTimeout: c.ReadTimeout, WriteTimeout: writeTimeout, IdleTimeout: c.IdleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ErrorLog: quiet,
	}
	return s
}

// newTLSConfig is requirement U8. The AES-128 suites are there because net/http
// refuses to offer HTTP/2 without one.
func newTLSConfig(certificate tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// run serves until ctx ends or a listener breaks.
func (s *servers) run(ctx context.Context) error {
	broken := make(chan error, 3)
	go func() { broken <- s.api.ServeTLS(s.listeners.api, "", "") }()
	if s.listeners.health != nil {
		go func() { broken <- s.plain.Serve(s.listeners.health) }()
	}
	if s.listeners.admin != nil {
		go func() { broken <- s.admin.Serve(s.listeners.admin) }()
	}
	s.announce()
	select {
	case err := <-broken:
		return fmt.Errorf("a listener broke: %w", err)
	case <-ctx.Done():
	}
	return s.drain()
}

// drain is the order of an end that no request notices (requirement R5):
// readiness says no, load balancers turn away, the ports close, what is in flight is answered.
func (s *servers) drain() error {
	c := s.parts.config.Server
	log := s.parts.log
	log.Info("draining", zap.Duration("delay", c.DrainDelay), zap.Duration("timeout", c.DrainTimeout))
	s.health.draining.Store(true)
	time.Sleep(c.DrainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), c.DrainTimeout)
	defer cancel()
	err := s.api.Shutdown(ctx)
	if err != nil {
		log.Warn("requests were still in flight when the drain timeout ended")
		_ = s.api.Close() // what is left is cut
	}
	_ = s.plain.Close() // probes of load balancers need no farewell
	_ = s.admin.Close()
	log.Info("stopped")
	return nil
}

// announce says what is served and from where.
func (s *servers) announce() {
	log := s.parts.log
	for _, g := range s.parts.groups {
		for _, h := range g.Health() {
			log.Info("HSM", zap.String("hsm_group", g.Name()), zap.String("hsm", h.HSM), zap.String("status", string(h.Status)),
				zap.String("reason", h.Reason), zap.String("token", h.Info.Label), zap.String("serial", h.Info.Serial),
				zap.String("model", h.Model), zap.String("library", h.Info.Library), zap.Int("sessions", h.Info.Sessions))
		}
	}
	for _, k := range s.parts.config.KeyStores {
		log.Info("key store", zap.String("key_store", k.Name), zap.String("uri_path", xks.URIPath(k.PathPrefix)),
			zap.String("hsm_group", k.HSMGroup), zap.Int("credentials", len(k.Credentials)), zap.Strings("labels", k.Keys.Labels))
	}
	fields := []zap.Field{zap.String("version", programVersion().Version), zap.Stringer("listen", s.listeners.api.Addr())}
	if s.listeners.health != nil {
		fields = append(fields, zap.Stringer("health", s.listeners.health.Addr()))
	}
	if s.listeners.admin != nil {
		fields = append(fields, zap.String("admin", s.parts.config.Admin.Socket))
	}
	log.Info("serving", fields...)
}
