package server

// From the configuration file to the parts that serve: one process for each HSM,
// groups of them, key stores on top.

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/lastuse"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/version"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

// parts is everything that serve starts and, in the other order, stops.
type parts struct {
	config   *config.Config // as the program was started: for what a reload does not change
	log      *zap.Logger
	opened   *logging.Log // log, and what it is written to
	fleet    *fleet.Fleet
	reloader *reloader
	tls      *certs.Holder
	kill     *killswitch.Switch
	uses     *lastuse.Uses
	since    time.Time // when the program started

	served *atomic.Pointer[xks.Handler] // nil until there is one; any goroutine may ask
}

// startProcesses starts the processes of the HSMs and waits for none. On an error those that were
// started are stopped. ctx is the life of the program.
func startProcesses(ctx context.Context, v serving, l *listeners) (*parts, error) {
	c, log, since := v.config, v.log.Logger, time.Now()
	kill, err := killswitch.Open(c.StateDirectory, log)
	if err != nil {
		return nil, err
	}
	kill.Know(c.URIPaths())
	uses := lastuse.Open(c.StateDirectory, since, log)
	running := fleet.New(log)
	err = running.Open(c, v.secrets)
	if err != nil {
		return nil, err
	}
	certificates := certs.NewHolder(c.Server.HTTP2, log, v.log.Strangers.Logger, time.Now)
	certificates.Use(v.material)
	served := new(atomic.Pointer[xks.Handler])
	reloader := newReloader(ctx, reloaderConfig{
		file: v.file, log: v.log, fleet: running, files: v.files, tls: certificates, kill: kill,
		listeners: l, served: served, warnings: v.warnings,
	})
	return &parts{
		config: c, log: log, opened: v.log, fleet: running, reloader: reloader, tls: certificates,
		kill: kill, uses: uses, since: since, served: served,
	}, nil
}

// assemble waits for the HSMs, starts the groups and builds the handler. The error is
// fleet.ErrStopped if ctx ends first. After any error the caller has to call stop.
func (p *parts) assemble(ctx context.Context) error {
	first := p.fleet.Starting.Load()
	err := p.fleet.Finish(ctx, first)
	if err != nil {
		return err
	}
	handler, err := xks.NewHandler(handlerConfig(first, p.opened))
	if err != nil {
		return err
	}
	p.kill.Attach(handler) // before its first request
	err = p.kill.Follow(first.Config.URIPaths(), p.log, func() error { return nil })
	if err != nil {
		return err
	}
	return p.fleet.Publish(ctx, first, func() error {
		p.served.Store(handler) // before a reload can begin
		return nil
	})
}

// running is the configuration in use.
func (p *parts) running() *config.Config { return p.fleet.Shown().Config }

// groupList is the groups in the order of the configuration; none before they have started. Any
// goroutine may ask.
func (p *parts) groupList() []*group.Group { return p.fleet.Groups() }

// stop ends what start began. No reload may be under way.
func (p *parts) stop() {
	p.fleet.Close()
	p.kill.Close()
}

// handlerConfig is what a generation serves.
func handlerConfig(g *fleet.Generation, log *logging.Log) xks.Config {
	c := g.Config
	result := xks.Config{
		Budget: c.Server.Budget, FirstRequestBudget: c.Server.FirstRequestBudget, MaxQueueTime: c.Server.MaxQueueTime,
		MaxBody: c.Server.MaxBody, MaxData: c.Server.MaxPlaintext, MaxAAD: c.Server.MaxAAD, MaxInFlight: c.Server.MaxInFlight,
		FleetSize: c.Proxy.FleetSize, Vendor: c.Proxy.Vendor, Model: c.Proxy.Model,
		Log: log.Logger, UnauthenticatedLog: log.Strangers.Logger,
	}
	if result.Model == "" {
		result.Model = "xks-proxy " + version.Get().Version
	}
	groups := map[string]*group.Group{}
	for _, group := range g.Groups {
		groups[group.Name()] = group.Group
	}
	for _, k := range c.KeyStores {
		store := xks.KeyStoreConfig{
			Name: k.Name, PathPrefix: k.PathPrefix, Hosts: k.Hosts, Group: groups[k.HSMGroup], Regions: k.Regions,
			Labels: k.Keys.Labels, Label: k.Keys.Label, Disabled: k.Keys.Disabled,
			Blocked: k.Blocked, VerifyOnSame: k.Integrity == "same",
			Policies: c.Policies[k.Name], PolicyMode: authz.Mode(k.Policy.Mode), Owner: k.Owner,
			Quota: xks.Quota{
				Rate: k.Quota.Rate, Burst: k.Quota.Burst, KeyRate: k.Quota.KeyRate, KeyBurst: k.Quota.KeyBurst, MaxInFlight: k.Quota.MaxInFlight,
			},
		}
		for _, key := range g.Secrets.AccessKeys[k.Name] {
			store.Credentials = append(
				store.Credentials,
				sigv4.Credential{AccessKeyID: key.ID, SecretAccessKey: key.Secret.Reveal()},
			)
		}
		result.KeyStores = append(result.KeyStores, store)
	}
	return result
}

// keyStores is what the handler says of each key store, with the last uses that earlier runs knew
// of.
func (p *parts) keyStores() []xks.KeyStoreStatus {
	handler := p.served.Load()
	if handler == nil {
		return nil
	}
	return p.uses.Overlay(handler.KeyStores())
}

func (p *parts) handlerStatus() xks.HandlerStatus {
	handler := p.served.Load()
	if handler == nil {
		return xks.ZeroHandlerStatus()
	}
	return handler.Status()
}
