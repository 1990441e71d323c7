package main

// From the configuration file to the parts that serve: one worker for each HSM,
// groups of them, key stores on top.

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks"
)

// parts is everything that serve starts and, in the other order, stops.
type parts struct {
	config  *config
	log     *zap.Logger
	workers map[string]*worker.Worker // by name of the HSM; complete from the beginning
	groups  map[string]*hsm.Group     // for the start and the end only; others see groupList
	handler *xks.Handler
	tls     *tlsHolder
	kill    *killSwitch
	uses    *lastUses
	since   time.Time // when the program started

	served  atomic.Pointer[xks.Handler]  // nil until there is one; any goroutine may ask
	started atomic.Pointer[[]*hsm.Group] // nil until every group has started
}

const (
	hsmStartTimeout   = 15 * time.Second // until each HSM is logged in or has failed
	firstProbeTimeout = 5 * time.Second  // until each HSM's keys are listed and it is probed
	hsmCloseTimeout   = 5 * time.Second
)

// startProcesses starts the processes of the HSMs and waits for none. On an error those that were
// started are stopped.
func startProcesses(c *config, secrets *secrets, log *zap.Logger) (*parts, error) {
	p := &parts{config: c, log: log, workers: map[string]*worker.Worker{}, groups: map[string]*hsm.Group{}, since: time.Now()}
	var err error
	p.kill, err = openKillSwitch(c.StateDirectory, log)
	if err != nil {
		return nil, err
	}
	p.uses = openLastUses(c.StateDirectory, p.since, log)
	for _, h := range p.config.HSMs {
		w, err := p.startWorker(h, secrets.PINs[h.Name])
		if err != nil {
			p.stop()
			return nil, err
		}
		p.workers[h.Name] = w
	}
	return p, nil
}

// assemble waits for the HSMs, starts the groups and builds the handler. errStopped if ctx ends
// first; whatever the error, stop is for the caller.
func (p *parts) assemble(ctx context.Context, secrets *secrets) error {
	if err := p.waitForHSMs(ctx); err != nil {
		return err
	}
	for _, g := range p.config.HSMGroups {
		group, err := p.startGroup(g)
		if err != nil {
			return err
		}
		p.groups[g.Name] = group
	}
	p.publishGroups()
	first, cancel := context.WithTimeout(ctx, firstProbeTimeout)
	defer cancel()
	for _, group := range p.groups {
		err := group.WaitFirst(first)
		switch {
		case ctx.Err() != nil:
			return errStopped
		case err != nil:
			p.log.Warn("an HSM has not been looked at yet; serving begins without it", zap.String("hsm_group", group.Name()))
		}
	}
	handler, err := xks.NewHandler(p.handlerConfig(secrets))
	if err != nil {
		return err
	}
	p.kill.attach(handler) // before its first request
	p.handler = handler
	p.served.Store(handler)
	return nil
}

func (p *parts) startWorker(h hsmConfig, pin secret) (*worker.Worker, error) {
	keeper := &pinKeeper{
		hsm: h, testKey: p.config.testKey(h.Name), dir: p.config.source.dir, pin: pin,
		refused: refusedPINs{directory: p.config.StateDirectory, log: p.log},
	}
	c, err := keeper.watch(worker.Config{
		Name:        h.Name,
		Command:     []string{"/proc/self/exe", "hsm-worker", h.Name},
		Dir:         p.config.source.dir,
		Env:         h.Environment,
		HangTimeout: h.HangTimeout,
		Log:         p.log.With(zap.String("hsm", h.Name)),
	})
	if err != nil {
		return nil, err
	}
	return worker.Start(c)
}

// tokenSettings is what a process needs to open the token of h. Sensitive: it holds the PIN.
func tokenSettings(h hsmConfig, pin secret, testKey string) pkcs11.Config {
	return pkcs11.Config{
		Module: h.Module, Token: h.Token, Serial: h.Serial, PIN: pkcs11.Secret(pin.reveal()),
		Sessions: h.Sessions, Profile: h.Profile, Overrides: h.Overrides.pkcs11(), TestKey: testKey,
	}
}

// testKey is the test key of the group that an HSM serves in; "" if it is in none.
func (c *config) testKey(name string) string {
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			if m.HSM == name {
				return g.TestKey
			}
		}
	}
	return ""
}

func (p *parts) startGroup(g hsmGroupConfig) (*hsm.Group, error) {
	var members []hsm.MemberConfig
	for _, m := range g.HSMs {
		h := p.config.hsm(m.HSM)
		members = append(members, hsm.MemberConfig{
			Name: m.HSM, Priority: m.Priority, Token: p.workers[m.HSM], Vendor: h.Vendor, Model: h.Model,
		})
	}
	return hsm.NewGroup(hsm.GroupConfig{
		Name: g.Name, Members: members, TestKey: g.TestKey,
		ProbeInterval: g.ProbeInterval, ProbeTimeout: g.ProbeTimeout, CatalogueInterval: g.CatalogueInterval,
		AttemptTimeout: g.AttemptTimeout, Budget: p.config.Server.Budget,
		HedgeAfter: g.HedgeAfter, HedgePercent: orNone(g.HedgePercent),
		LostKey: hsm.LostKey(g.LostKey), ParityRate: orNone(g.ParityRate),
		StateDirectory: p.config.StateDirectory, Log: p.log,
	})
}

// publishGroups lets groupList see them.
func (p *parts) publishGroups() {
	list := make([]*hsm.Group, 0, len(p.groups))
	for _, g := range p.config.HSMGroups {
		list = append(list, p.groups[g.Name])
	}
	p.started.Store(&list)
}

// groupList is the groups in the order of the configuration; none before they have started. Any
// goroutine may ask.
func (p *parts) groupList() []*hsm.Group {
	list := p.started.Load()
	if list == nil {
		return nil
	}
	return *list
}

// orNone turns the 0 of the configuration, which is none, into a group's: there 0 is the default.
func orNone(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

func (p *parts) handlerConfig(secrets *secrets) xks.Config {
	c := p.config
	result := xks.Config{
		Budget: c.Server.Budget, FirstRequestBudget: c.Server.FirstRequestBudget,
		MaxBody: c.Server.MaxBody, MaxData: c.Server.MaxPlaintext, MaxAAD: c.Server.MaxAAD, MaxInFlight: c.Server.MaxInFlight,
		MaxQueueTime: c.Server.MaxQueueTime,
		FleetSize:    c.Proxy.FleetSize, Vendor: c.Proxy.Vendor, Model: c.Proxy.Model, Log: p.log,
	}
	if result.Model == "" {
		result.Model = "xks-proxy " + programVersion().Version
	}
	for _, k := range c.KeyStores {
		store := xks.KeyStoreConfig{
			Name: k.Name, PathPrefix: k.PathPrefix, Hosts: k.Hosts, Group: p.groups[k.HSMGroup], Regions: k.Regions,
			Labels: k.Keys.Labels, Label: k.Keys.Label, Disabled: k.Keys.Disabled,
			Blocked: k.Blocked, VerifyOnSame: k.Integrity == "same",
			Policies: c.policies[k.Name], PolicyMode: authz.Mode(k.Policy.Mode), Owner: k.Owner,
			Quota: xks.Quota{
				Rate: k.Quota.Rate, Burst: k.Quota.Burst, KeyRate: k.Quota.KeyRate, KeyBurst: k.Quota.KeyBurst, MaxInFlight: k.Quota.MaxInFlight,
			},
		}
		for _, key := range secrets.AccessKeys[k.Name] {
			store.Credentials = append(store.Credentials, sigv4.Credential{AccessKeyID: key.ID, SecretAccessKey: key.Secret.reveal()})
		}
		result.KeyStores = append(result.KeyStores, store)
	}
	return result
}

// stop ends what start began: groups first, which use the workers.
func (p *parts) stop() {
	for _, group := range p.groups {
		group.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), hsmCloseTimeout)
	defer cancel()
	ended := make(chan error)
	for _, w := range p.workers {
		go func() { ended <- w.Close(ctx) }()
	}
	for range p.workers {
		if err := <-ended; err != nil {
			p.log.Warn("an HSM was not closed cleanly", zap.Error(err))
		}
	}
}

func (o hsmOverrides) pkcs11() pkcs11.Overrides {
	return pkcs11.Overrides{
		IVSource: pkcs11.IVSource(o.IVSource), IVSize: o.IVSize, IVBits: pkcs11.IVBits(o.IVBits), Mechanism: o.Mechanism,
		MaxAAD: o.MaxAAD, MaxData: o.MaxData, ReadOnlySessions: o.ReadOnlySessions,
		InvalidCiphertext: o.InvalidCiphertext, Ambiguous: o.Ambiguous,
	}
}
