package group

// Look-up of keys. A key that is not in the catalogue is looked up on the HSMs. Such look-ups are
// shared, and limited for the group and for each key store, so that a flood of unknown key ids can
// neither overload an HSM nor use up what other key stores need (requirement R3).

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

// ErrLookupLimit says that the rate limit for look-ups of unknown keys is exceeded.
var ErrLookupLimit = errors.New("too many requests for unknown keys")

const (
	lookupsPerSecond         = 40 // of a group: SoftHSM takes 11 ms to find a label among 1000 keys
	resolverLookupsPerSecond = 10 // of one resolver
)

// Resolver finds keys for one key store. It makes at most 10 live look-ups a second, with a burst
// of 10; the whole group makes at most 40. It is safe for concurrent use.
type Resolver struct {
	group  *Group
	flight singleflight.Group // by label
	limits catalogue.LookupLimits
}

// NewResolver returns a resolver with its full rate limit.
func (g *Group) NewResolver() *Resolver {
	return &Resolver{group: g, limits: catalogue.NewLookupLimits(resolverLookupsPerSecond)}
}

// newUnlimitedResolver returns the group's own resolver, which only has the limit of the group.
func (g *Group) newUnlimitedResolver() *Resolver {
	none := catalogue.LookupLimits{
		Unknown: rate.NewLimiter(rate.Inf, 0),
		Known:   rate.NewLimiter(rate.Inf, 0),
	}
	return &Resolver{group: g, limits: none}
}

// Key is Resolver.Key, limited only by the limit of the group.
func (g *Group) Key(ctx context.Context, label string) (*catalogue.Key, error) {
	return g.resolver.Key(ctx, label)
}

// KeyWithVersion is Resolver.KeyWithVersion, limited only by the limit of the group.
func (g *Group) KeyWithVersion(ctx context.Context, ref hsm.KeyRef) (*catalogue.Key, error) {
	return g.resolver.KeyWithVersion(ctx, ref)
}

// Key returns the key with a label. If the catalogue does not have it, the HSMs are asked. The
// error is ErrKeyNotFound if every HSM that may hold the key answered (requirement X7),
// ErrUnavailable if one of them did not, ErrTimeout if ctx ended, and ErrLookupLimit if the look-up
// was not made.
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

// KeyWithVersion is Key for a decryption: it also asks the HSMs if the key is known but the version
// is not. ErrKeyNotFound then concerns the version.
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

// lookup asks the HSMs for a label; concurrent calls share one look-up. A key that does not satisfy
// want counts as missing, and missing describes that in the error.
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
