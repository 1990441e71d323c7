// Package group serves from several HSMs that hold the same keys as if they were one.
package group

// This file has the configuration of a group, its start and its end. Requests: attempt.go,
// request.go, pick.go, verdict.go, verified.go. Service of the HSMs: outage.go, probe.go,
// backlog.go. Keys: listing.go, resolver.go, admission.go, key_faults.go, unreadable.go,
// crosscheck.go. Restart and reload: takeover.go.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/breaker"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/status"
)

// MaxMembers is the largest number of HSMs in a group: GetHealthStatus lists at most ten
// (requirement H1).
const MaxMembers = 10

// Config describes a group. Zero values mean the defaults named here, where there is one.
type Config struct {
	Name    string
	Members []MemberConfig

	// TestKey is the label of the proxy's own key on every HSM, used by probes (requirement H2). No
	// key store can use it.
	TestKey string

	ProbeInterval     time.Duration // of a healthy HSM; default 5 s, at most 30 s (H2)
	ProbeTimeout      time.Duration // after which a probe has failed; default 2 s, at most 20 s
	CatalogueInterval time.Duration // between two listings of all keys; default 30 s

	// AttemptTimeout is how long one call on an HSM may take before the HSM becomes suspect: the
	// request also goes to another HSM, and later requests skip the suspect one until a probe
	// succeeds. Default 60 ms.
	AttemptTimeout time.Duration
	// Budget is the time for one request (requirement U13). An HSM whose probe takes longer cannot
	// serve. Default 200 ms.
	Budget time.Duration
	// HedgeAfter is the shortest time after which a request that is slow for its HSM is hedged: it
	// goes to a second HSM as well. Default 10 ms.
	HedgeAfter time.Duration
	// HedgePercent is the percentage of requests that may be hedged, so that a group that is slow
	// as a whole does not get twice the load. 0: none.
	HedgePercent int

	// KeyVersion is the rule for reading versions from CKA_ID. Default VersionID4.
	KeyVersion hsm.VersionRule
	// LostKey is the policy for a key version that was on every HSM and is missing on one. Default
	// LostKeyEncrypt.
	LostKey catalogue.LostKey
	// ParityRate is how many key versions a second are compared between the HSMs. 0: none.
	ParityRate int

	// StateDirectory holds the last catalogue of each HSM; "" keeps it in memory only.
	StateDirectory string
	// Predecessor is the running group that this one will replace, or nil. The new group starts
	// with what it knows.
	Predecessor *Group
	// Provisional keeps the group from writing to the state directory before TakeOver, because it
	// may never serve.
	Provisional bool
	Log         *zap.Logger
}

// MemberConfig is one HSM of a group.
type MemberConfig struct {
	Name     string
	Priority int // lower serves first; equals share the load
	Token    hsm.Token
	Vendor   string // shown by GetHealthStatus instead of what the token says
	Model    string // likewise
}

const (
	defaultProbeInterval     = 5 * time.Second
	defaultProbeTimeout      = 2 * time.Second
	defaultCatalogueInterval = 30 * time.Second
	defaultAttemptTimeout    = 60 * time.Millisecond
	defaultBudget            = 200 * time.Millisecond
	defaultHedgeAfter        = 10 * time.Millisecond
)

// Limits of Config.
const (
	MaxProbeInterval = 30 * time.Second // requirement H2
	MaxProbeTimeout  = 20 * time.Second
)

func (c Config) withDefaults() Config {
	c.ProbeInterval = cmp.Or(c.ProbeInterval, defaultProbeInterval)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, defaultProbeTimeout)
	c.CatalogueInterval = cmp.Or(c.CatalogueInterval, defaultCatalogueInterval)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, defaultAttemptTimeout)
	c.Budget = cmp.Or(c.Budget, defaultBudget)
	c.HedgeAfter = cmp.Or(c.HedgeAfter, defaultHedgeAfter)
	c.KeyVersion = cmp.Or(c.KeyVersion, hsm.VersionID4)
	c.LostKey = cmp.Or(c.LostKey, catalogue.LostKeyEncrypt)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Validate returns all errors of the configuration, joined.
func (c Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Name == "" {
		fail("the group has no name")
	}
	if n := len(c.Members); n < 1 || n > MaxMembers {
		fail("group %q has %d HSMs; it takes 1 to %d", c.Name, n, MaxMembers)
	}
	seen := map[string]bool{}
	for _, m := range c.Members {
		if seen[m.Name] {
			fail("group %q names HSM %q twice", c.Name, m.Name)
		}
		seen[m.Name] = true
		if m.Name == "" || m.Token == nil {
			fail("group %q: every HSM needs a name and a token; %q lacks one", c.Name, m.Name)
		}
	}
	if c.TestKey == "" {
		fail("group %q names no test key", c.Name)
	}
	if c.ProbeInterval < 0 || c.ProbeInterval > MaxProbeInterval {
		fail(
			"group %q: the probe interval %v is not between 0 and %v",
			c.Name,
			c.ProbeInterval,
			MaxProbeInterval,
		)
	}
	if c.ProbeTimeout < 0 || c.ProbeTimeout > MaxProbeTimeout {
		fail(
			"group %q: the probe timeout %v is not between 0 and %v",
			c.Name,
			c.ProbeTimeout,
			MaxProbeTimeout,
		)
	}
	if c.CatalogueInterval < 0 || c.AttemptTimeout < 0 || c.Budget < 0 || c.HedgeAfter < 0 {
		fail("group %q: negative durations are not allowed", c.Name)
	}
	if full := c.withDefaults(); full.AttemptTimeout >= full.Budget {
		fail(
			"group %q: the attempt timeout %v is not below the budget of a request, %v: "+
				"no time would be left for another HSM",
			c.Name,
			full.AttemptTimeout,
			full.Budget,
		)
	}
	if c.HedgePercent < 0 || c.HedgePercent > 100 {
		fail("group %q: %d %% of the requests cannot be hedged", c.Name, c.HedgePercent)
	}
	if c.KeyVersion != "" && !slices.Contains(hsm.VersionRules(), c.KeyVersion) {
		fail(
			"group %q: key_version %q is unknown: use one of %v",
			c.Name,
			c.KeyVersion,
			hsm.VersionRules(),
		)
	}
	if c.LostKey != "" && c.LostKey != catalogue.LostKeyEncrypt &&
		c.LostKey != catalogue.LostKeyRefuse {
		fail(
			"group %q: %q is not a way to treat a lost key; there are %q and %q",
			c.Name,
			c.LostKey,
			catalogue.LostKeyEncrypt,
			catalogue.LostKeyRefuse,
		)
	}
	return errors.Join(errs...)
}

// Group serves from several HSMs as if they were one. It is safe for concurrent use.
type Group struct {
	config  Config
	log     *zap.Logger
	members []*member

	roundRobin atomic.Uint32 // distributes requests among equal members
	hedges     breaker.HedgeBudget
	catalogue  atomic.Pointer[catalogue.Catalogue] // replaced in the background

	starvedAt atomic.Pointer[time.Time] // when this machine last stood still

	hedgesMade, hedgesDenied, retries atomic.Uint64 // since the start

	draining sync.Mutex // one Drain decides at a time

	mu       sync.Mutex // guards every member's objects, and serialises the making of catalogues
	lookups  catalogue.LookupCache
	resolver *Resolver // for look-ups of the group itself

	predecessor *Group // until TakeOver. Guarded by mu.
	established bool   // some keys were known before the start: new members are verified
	store       *catalogue.Store

	parity        *catalogue.Parity // guarded by mu, except for the names of its HSMs
	savingParity  sync.Mutex        // one writer at a time; does not need mu
	findingLimits findingLogLimits
	crossChecks   catalogue.CrossChecks // has its own lock, taken under mu

	ctx     context.Context // ends with the group
	stop    context.CancelFunc
	running sync.WaitGroup

	listedOnce sync.WaitGroup // one for each member's first listing of its keys
	probedOnce sync.WaitGroup // one for each member's first probe
}

// member is one HSM of a group.
type member struct {
	MemberConfig
	bit         catalogue.Set
	breaker     breaker.Breaker
	latency     breaker.Latency
	inFlight    atomic.Int32
	queue       breaker.Queue
	queueLength hsm.Queued     // the token, if it is one
	supervised  hsm.Supervised // likewise

	trust       *catalogue.Trust   // shared with a successor that has the same token
	admitted    atomic.Uint64      // incarnation whose token's identity was checked
	vetting     atomic.Bool        // not listed since then: others are asked first
	serial      string             // of the token last admitted, if known. Guarded by Group.mu.
	serialKnown bool               // guarded by Group.mu
	keyBreaker  breaker.KeyBreaker // keys that fail on this HSM alone
	failures    int                // consecutive failed probes of a living process

	overtakes atomic.Int32 // weight of the requests that another HSM answered first
	health    atomic.Pointer[probeResult]

	keyFaults, unproven    atomic.Uint64 // since the start; see status.Member
	requests, faults, slow atomic.Uint64 // since the start; see status.Member
	lastFault              atomic.Pointer[fault]
	suspicions             *rate.Limiter // limits log lines
	suspicionLogged        atomic.Bool   // the current suspicion was logged

	listingFailed atomic.Bool // the last listing failed

	refresh chan struct{} // capacity 1: list the keys soon
	probe   chan struct{} // capacity 1: probe soon

	objects    map[string][]hsm.Object // by label; nil if never listed. Guarded by Group.mu.
	listing    listing                 // the last one, even if it failed. Guarded by Group.mu.
	listed     time.Time               // last successful listing. Guarded by Group.mu.
	unreadable []hsm.Object            // of the last listing. Guarded by Group.mu.
	unsaved    bool                    // not in the state directory yet. Guarded by Group.mu.
}

// New starts a group and its background work. Close ends it. The tokens belong to the caller, who
// closes them after Close.
func New(c Config) (*Group, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	predecessor := c.Predecessor
	c.Predecessor = nil // the group outlives it
	ctx, stop := context.WithCancel(context.Background())
	g := &Group{
		config:        c,
		log:           c.Log.With(zap.String("hsm_group", c.Name)),
		ctx:           ctx,
		stop:          stop,
		store:         catalogue.NewStore(c.StateDirectory, c.Name),
		parity:        catalogue.NewParity(namesOf(c.Members), c.TestKey, c.LostKey),
		findingLimits: newFindingLogLimits(),
		lookups: catalogue.LookupCache{
			Limits: catalogue.NewLookupLimits(lookupsPerSecond),
			Recent: map[string]catalogue.Lookup{},
		},
	}
	g.resolver = g.newUnlimitedResolver()
	g.hedges.Init(c.HedgePercent)
	if c.Provisional {
		g.store.Pause()
	} else { // the predecessor may still be writing temporary files
		for _, err := range g.store.RemoveLeftovers() {
			g.log.Warn("cannot remove an unfinished file in the state directory", zap.Error(err))
		}
	}
	for i, mc := range c.Members {
		m := &member{
			MemberConfig: mc,
			bit:          1 << i,
			refresh:      make(chan struct{}, 1),
			probe:        make(chan struct{}, 1),
			suspicions:   rate.NewLimiter(rate.Every(suspicionInterval), suspicionBurst),
		}
		m.queueLength, _ = mc.Token.(hsm.Queued)
		m.supervised, _ = mc.Token.(hsm.Supervised)
		m.trust = &catalogue.Trust{}
		m.breaker.Since = time.Now()
		m.health.Store(
			&probeResult{
				Health: status.Health{
					HSM:    mc.Name,
					Status: status.Unavailable,
					Reason: "not probed yet",
				},
			},
		)
		g.members = append(g.members, m)
	}
	g.restore(predecessor)
	g.countSessions()
	g.mu.Lock()
	g.rebuild()
	g.mu.Unlock()
	g.running.Go(func() { g.crossCheckLoop(ctx) })
	g.running.Go(func() { g.estimateLoop(ctx) })
	for _, m := range g.members {
		g.listedOnce.Add(1)
		g.probedOnce.Add(1)
		g.running.Go(func() { g.listLoop(ctx, m) })
		g.running.Go(func() { g.probeLoop(ctx, m) })
	}
	return g, nil
}

func namesOf(members []MemberConfig) []string {
	names := make([]string, 0, len(members))
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// Name returns the name of the group in the configuration.
func (g *Group) Name() string { return g.config.Name }

// TestKey returns the label of the proxy's own key.
func (g *Group) TestKey() string { return g.config.TestKey }

// firstListing is how long a start waits for the first listings after every HSM was probed. Keys
// that are not listed yet are looked up one by one.
const firstListing = time.Second

// WaitFirstProbes waits until every HSM was probed once, with any result, and then at most a second
// longer for the first listing of each HSM's keys. It returns ctx.Err() if ctx ends first.
func (g *Group) WaitFirstProbes(ctx context.Context) error {
	err := waitGroup(ctx, &g.probedOnce)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, firstListing)
	defer cancel()
	_ = waitGroup(limited, &g.listedOnce)
	return ctx.Err()
}

func waitGroup(ctx context.Context, group *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops the background work and waits for it to end.
func (g *Group) Close() {
	g.stop()
	g.running.Wait()
}

// wake makes a background loop run soon.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
