package hsm

// Group: several HSMs that hold the same keys and stand in for each other. This
// file is what it is made of and how it starts and stops; attempt.go is the
// failover inside one request, catalogue.go and look.go the keys, probe.go the
// health, memory.go what is remembered across restarts.

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// MaxMembers is how many HSMs a group can have: GetHealthStatus lists at most
// ten (requirement H1).
const MaxMembers = 10

// GroupConfig says which HSMs form a group and how it treats them. Zero
// durations mean the defaults named here.
type GroupConfig struct {
	Name    string
	Members []MemberConfig

	// TestKey is the label of the proxy's own key on every HSM, with which it
	// probes them (requirement H2). No key store can reach it.
	TestKey string

	ProbeInterval     time.Duration // between two probes of a healthy HSM; default 5 s, at most 30 s (H2)
	ProbeTimeout      time.Duration // after which a probe has failed; default 2 s, at most 20 s
	CatalogueInterval time.Duration // between two listings of all keys; default 30 s
	AttemptTimeout    time.Duration // after which the next HSM is tried; default 60 ms

	// StateDirectory is where the last catalogue of each HSM is kept; "" keeps it in memory only.
	StateDirectory string
	Log            *zap.Logger
}

// MemberConfig is one HSM of a group.
type MemberConfig struct {
	Name     string
	Priority int // lower serves first; equals share the load
	Token    Token
	Vendor   string // shown by GetHealthStatus instead of what the token says
	Model    string // likewise
}

const (
	defaultProbeInterval     = 5 * time.Second
	defaultProbeTimeout      = 2 * time.Second
	defaultCatalogueInterval = 30 * time.Second
	defaultAttemptTimeout    = 60 * time.Millisecond

	maxProbeInterval = 30 * time.Second
	maxProbeTimeout  = 20 * time.Second
)

func (c GroupConfig) withDefaults() GroupConfig {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.ProbeInterval, defaultProbeInterval},
		{&c.ProbeTimeout, defaultProbeTimeout},
		{&c.CatalogueInterval, defaultCatalogueInterval},
		{&c.AttemptTimeout, defaultAttemptTimeout},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Validate reports everything that is wrong with the configuration.
func (c GroupConfig) Validate() error {
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
	if c.ProbeInterval < 0 || c.ProbeInterval > maxProbeInterval {
		fail("group %q: the probe interval %v is not between 0 and %v", c.Name, c.ProbeInterval, maxProbeInterval)
	}
	if c.ProbeTimeout < 0 || c.ProbeTimeout > maxProbeTimeout {
		fail("group %q: the probe timeout %v is not between 0 and %v", c.Name, c.ProbeTimeout, maxProbeTimeout)
	}
	if c.CatalogueInterval < 0 || c.AttemptTimeout < 0 {
		fail("group %q: negative durations are not allowed", c.Name)
	}
	return errors.Join(errs...)
}

// Group serves from several HSMs as if they were one. It is safe for concurrent use.
type Group struct {
	config  GroupConfig
	log     *zap.Logger
	members []*member

	turn      atomic.Uint32             // spreads equal members evenly
	catalogue atomic.Pointer[catalogue] // read by every request, replaced in the background

	mu    sync.Mutex // guards every member's objects, and serialises the making of catalogues
	looks looks

	ctx     context.Context // ends with the group
	stop    context.CancelFunc
	running sync.WaitGroup
	first   sync.WaitGroup // one for each member's first look at its keys and first probe
}

// member is one HSM as a group sees it.
type member struct {
	MemberConfig
	bit      memberSet
	standing standing
	inFlight atomic.Int32
	health   atomic.Pointer[Health]

	unlisted atomic.Bool // the last listing of its keys failed

	refresh chan struct{} // capacity 1: list the keys soon
	probe   chan struct{} // capacity 1: probe soon

	objects map[string][]Object // label -> key objects as last seen; nil: never seen. Guarded by Group.mu.
	unsaved bool                // objects differ from what the state directory remembers. Guarded by Group.mu.
}

// memberSet is a set of members, by their place in the group.
type memberSet uint16

func (s memberSet) size() int { return bits.OnesCount16(uint16(s)) }

// first is the lowest place in a set that is not empty.
func (s memberSet) first() int { return bits.TrailingZeros16(uint16(s)) }

// NewGroup starts a group and its background work. Close ends that; it does not
// close the tokens, which belong to the caller.
func NewGroup(c GroupConfig) (*Group, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	g := &Group{
		config: c,
		log:    c.Log.With(zap.String("hsm_group", c.Name)),
		ctx:    ctx,
		stop:   stop,
		looks: looks{
			flight: new(singleflight.Group),
			limit:  rate.NewLimiter(looksPerSecond, looksBurst),
			recent: map[string]look{},
		},
	}
	for i, mc := range c.Members {
		m := &member{
			MemberConfig: mc,
			bit:          1 << i,
			refresh:      make(chan struct{}, 1),
			probe:        make(chan struct{}, 1),
		}
		m.health.Store(&Health{HSM: mc.Name, Status: Unavailable, Reason: "not probed yet"})
		g.recall(m)
		g.members = append(g.members, m)
	}
	g.mu.Lock()
	g.rebuild()
	g.mu.Unlock()
	for _, m := range g.members {
		g.first.Add(2)
		g.running.Go(func() { g.keepCatalogue(ctx, m) })
		g.running.Go(func() { g.keepProbing(ctx, m) })
	}
	return g, nil
}

// Name is the group's name in the configuration.
func (g *Group) Name() string { return g.config.Name }

// TestKey is the label that belongs to the proxy itself.
func (g *Group) TestKey() string { return g.config.TestKey }

// WaitFirst waits until every HSM's keys have been listed once and every HSM
// been probed once, with whatever result, or until ctx ends.
func (g *Group) WaitFirst(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		g.first.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the background work and waits for it.
func (g *Group) Close() {
	g.stop()
	g.running.Wait()
}

// nudge asks a background loop to run soon, if it is not about to anyway.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
