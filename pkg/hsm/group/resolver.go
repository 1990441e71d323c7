package group

// Who asks for keys. A key that is not in the catalogue is looked for on the HSMs; such looks are
// shared and bounded, for
// the group and for each asker, so that a flood of unknown key ids can neither hammer an HSM nor
// use up what others need (requirement R3).

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// ErrLookupLimit: more unknown keys were asked for than the HSMs are bothered with.
var ErrLookupLimit = errors.New("too many requests for unknown keys")

const (
	lookupsPerSecond         = 40 // of the whole group: SoftHSM takes 11 ms to find a label among 1000 keys
	resolverLookupsPerSecond = 10 // of one asker
)

// Resolver finds keys on behalf of one key store. Its looks are limited on their own, 10 a second
// with a burst of as many, below the
// limit of the group, which is 40. It is safe for concurrent use.
type Resolver struct {
	group  *Group
	flight singleflight.Group // by label
	limits catalogue.LookupLimits
}

// NewResolver is a resolver with nothing used of its limits.
func (g *Group) NewResolver() *Resolver {
	return &Resolver{group: g, limits: catalogue.NewLookupLimits(resolverLookupsPerSecond)}
}

// newUnlimitedResolver is who asks for the group itself: no limit but the group's.
func (g *Group) newUnlimitedResolver() *Resolver {
	none := catalogue.LookupLimits{
		Unknown: rate.NewLimiter(rate.Inf, 0),
		Known:   rate.NewLimiter(rate.Inf, 0),
	}
	return &Resolver{group: g, limits: none}
}

// Key is Resolver.Key without a limit but the group's.
func (g *Group) Key(ctx context.Context, label string) (*catalogue.Key, error) {
	return g.resolver.Key(ctx, label)
}

// KeyWithVersion is Resolver.KeyWithVersion without a limit but the group's.
func (g *Group) KeyWithVersion(ctx context.Context, ref hsm.KeyRef) (*catalogue.Key, error) {
	return g.resolver.KeyWithVersion(ctx, ref)
}

// Key finds a key by its label. One that the catalogue does not have is looked
// for on the HSMs: the result is ErrKeyNotFound only if at least one HSM said
// so and none that might hold it is away (requirement X7); then it is ErrUnavailable.
// ErrLookupLimit says that the look was not made.
func (a *Resolver) Key(ctx context.Context, label string) (*catalogue.Key, error) {
	if key := a.group.catalogue.Load().Keys[label]; key != nil {
		return key, nil
	}
	return a.lookup(
		ctx,
		label,
		func(*catalogue.Key) bool { return true },
		fmt.Sprintf("no HSM of the group has a key labelled %q", label),
	)
}

// KeyWithVersion is Key for a decryption: it looks again, too, when the key is
// known and the version is not. ErrKeyNotFound then speaks of the version.
func (a *Resolver) KeyWithVersion(ctx context.Context, ref hsm.KeyRef) (*catalogue.Key, error) {
	key := a.group.catalogue.Load().Keys[ref.Label]
	if key != nil && holds(ref.Version)(key) {
		return key, nil
	}
	return a.lookup(ctx, ref.Label, holds(ref.Version), versionNotFound(ref))
}

func holds(version uint32) func(*catalogue.Key) bool {
	return func(key *catalogue.Key) bool { return key.MayHold(version) }
}

func versionNotFound(ref hsm.KeyRef) string {
	return fmt.Sprintf("no HSM of the group has version %d of key %q", ref.Version, ref.Label)
}

// look asks the HSMs for a label, together with all who ask at the same time on the same behalf.
// A key for which want is false is as good as none; missing then says what is not there.
func (a *Resolver) lookup(
	ctx context.Context,
	label string,
	want func(*catalogue.Key) bool,
	missing string,
) (*catalogue.Key, error) {
	g := a.group
	found, recent := g.lookups.Get(label)
	if !recent {
		flight := a.flight.DoChan(label, func() (any, error) {
			known := g.catalogue.Load().Keys[label] != nil
			if !a.limits.Allow(known) || !g.lookups.Limits.Allow(known) {
				return nil, ErrLookupLimit
			}
			return g.lookupNow(label), nil
		})
		select {
		case result := <-flight:
			if result.Err != nil {
				return nil, result.Err
			}
			found = result.Val.(catalogue.Lookup)
		case <-ctx.Done():
			return nil, &hsm.Error{
				Op:     "look for key",
				Kind:   hsm.Timeout(ctx.Err()),
				Detail: fmt.Sprintf("key %q", label),
			}
		}
	}
	switch {
	case found.Key != nil && want(found.Key):
		return found.Key, nil
	case len(found.Away) > 0:
		return nil, &hsm.Error{
			Op:   "look for key",
			Kind: hsm.ErrUnavailable,
			Detail: fmt.Sprintf(
				"%s, but not all HSMs answered%s",
				missing,
				hsm.CauseSuffix(found.Away),
			),
		}
	}
	return nil, &hsm.Error{Op: "look for key", Kind: hsm.ErrKeyNotFound, Detail: missing}
}
