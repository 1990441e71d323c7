package group

// Operations on keys for operators: report the keys, and list an HSM now.

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const refreshPoll = 20 * time.Millisecond

// listing is the last listing of an HSM.
type listing struct {
	began time.Time
	err   error
}

// Refresh lists the keys of an HSM and waits for a listing that began after the call. Errors:
// ErrUnknownHSM, ctx.Err(), and the error of the HSM.
func (g *Group) Refresh(ctx context.Context, name string) (catalogue.ListingDiff, error) {
	m := g.member(name)
	if m == nil {
		return catalogue.ListingDiff{}, fmt.Errorf("%w: %q", ErrUnknownHSM, name)
	}
	start := time.Now()
	before := g.objectsOf(m)
	wake(m.refresh)
	beat := time.NewTicker(refreshPoll)
	defer beat.Stop()
	for {
		last, done := g.listedSince(m, start)
		switch {
		case done && last.err != nil:
			return catalogue.ListingDiff{}, last.err
		case done:
			return catalogue.DiffListings(before, g.objectsOf(m)), nil
		}
		select {
		case <-ctx.Done():
			return catalogue.ListingDiff{}, ctx.Err()
		case <-beat.C:
		}
	}
}

// objectsOf returns what a member holds, or nil if it was never listed.
func (g *Group) objectsOf(m *member) map[string][]hsm.Object {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(m.objects)
}

// listedSince returns the last listing of a member, and whether it began at start or later.
func (g *Group) listedSince(m *member, start time.Time) (listing, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return m.listing, !m.listing.began.Before(start)
}

// Keys reports all keys whose label satisfies want, sorted by label and version.
func (g *Group) Keys(want func(label string) bool) []catalogue.KeyReport {
	known, held := g.held()
	notes := map[string][]catalogue.Finding{}
	for _, f := range g.findings() {
		notes[f.Label] = append(notes[f.Label], f)
	}
	reports := []catalogue.KeyReport{}
	for _, label := range slices.Sorted(maps.Keys(known.Keys)) {
		if want(label) {
			base := catalogue.KeyReport{Group: g.config.Name, TestKey: label == g.config.TestKey}
			reports = append(reports, known.Keys[label].Report(base, held, notes[label])...)
		}
	}
	return reports
}

// held returns the catalogue and the objects it was built from. The lists of objects are immutable.
func (g *Group) held() (*catalogue.Catalogue, []catalogue.HeldKeys) {
	g.mu.Lock()
	defer g.mu.Unlock()
	held := make([]catalogue.HeldKeys, len(g.members))
	for i, m := range g.members {
		held[i] = catalogue.HeldKeys{
			Name:       m.Name,
			Objects:    maps.Clone(m.objects),
			Unreadable: map[string]bool{},
		}
		for _, o := range m.unreadable {
			held[i].Unreadable[o.Label] = true
		}
	}
	return g.catalogue.Load(), held
}
