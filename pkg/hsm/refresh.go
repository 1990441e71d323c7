package hsm

// Listing the keys of an HSM because an operator asks for it.

import (
	"context"
	"fmt"
	"maps"
	"time"
)

const refreshPoll = 20 * time.Millisecond

// listing is the last listing of an HSM.
type listing struct {
	began time.Time
	err   error
}

// Refresh has the keys of an HSM listed and waits for a listing that began after the
// call. Errors: ErrUnknownHSM, the end of ctx, and what the HSM answered.
func (g *Group) Refresh(ctx context.Context, name string) (Refreshed, error) {
	m := g.member(name)
	if m == nil {
		return Refreshed{}, fmt.Errorf("%w: %q", ErrUnknownHSM, name)
	}
	start := time.Now()
	before := g.objectsOf(m)
	nudge(m.refresh)
	beat := time.NewTicker(refreshPoll)
	defer beat.Stop()
	for {
		last, done := g.listedSince(m, start)
		switch {
		case done && last.err != nil:
			return Refreshed{}, last.err
		case done:
			return difference(before, g.objectsOf(m)), nil
		}
		select {
		case <-ctx.Done():
			return Refreshed{}, ctx.Err()
		case <-beat.C:
		}
	}
}

// objectsOf is what a member is known to hold; nil if its keys were never listed.
func (g *Group) objectsOf(m *member) map[string][]Object {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(m.objects)
}

// listedSince is a member's last listing, if that began at start or later.
func (g *Group) listedSince(m *member, start time.Time) (listing, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return m.listing, !m.listing.began.Before(start)
}
