package group

// How the catalogue stays current: background listings of all keys, and live look-ups of single
// labels (resolver.go limits them).

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	lookupTimeout = time.Second

	// catalogueTimeout is far above what an HSM needs: 10,000 keys at 60 ms take 10 minutes.
	// Package worker detects a listing that makes no progress.
	catalogueTimeout = 30 * time.Minute
	listingShare     = 20          // an HSM spends at most a twentieth of its time on listings
	catalogueRetry   = time.Second // after a failed listing, and between any two
)

// lookupNow asks every HSM of the group at once, with a shorter timeout for one that is out of
// service.
func (g *Group) lookupNow(label string) catalogue.Lookup {
	found := make([][]hsm.Object, len(g.members))
	errs := make([]error, len(g.members))
	hidden := make([]error, len(g.members)) // objects of the label that could not be read
	var asking sync.WaitGroup
	for i, m := range g.members {
		timeout := lookupTimeout
		if m.breaker.Out.Load() {
			timeout = g.config.AttemptTimeout
		}
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(g.ctx, timeout)
			defer cancel()
			objects, err := m.Token.Find(ctx, label)
			objects, unreadable := hsm.SplitUnreadable(objects)
			found[i], errs[i] = hsm.SortObjects(
				hsm.ReadBy(g.config.KeyVersion, objects),
			), hsm.WithHSM(
				err,
				m.Name,
			)
			if len(unreadable) > 0 {
				hidden[i] = hsm.WithHSM(hsm.UnreadableError("find key", unreadable[0]), m.Name)
			}
		})
	}
	asking.Wait()

	g.mu.Lock()
	defer g.mu.Unlock()
	changed := false
	views := g.views(label)
	var away []error
	for i, m := range g.members {
		if errs[i] != nil {
			away = append(away, errs[i])
			continue
		}
		if hidden[i] != nil {
			away = append(away, hidden[i])
			views[i].Hidden = true
			if len(found[i]) < len(m.objects[label]) {
				continue // it is as it was last seen
			}
		}
		views[i].Seen, views[i].Objects = true, found[i]
		// An HSM that was not listed yet stays unknown: one label is not its catalogue.
		if m.objects == nil || hsm.SameObjects(m.objects[label], found[i]) {
			continue
		}
		changed = true
		m.unsaved = true
		if len(found[i]) == 0 {
			delete(m.objects, label)
		} else {
			m.objects[label] = found[i]
		}
	}
	if changed {
		g.rebuildOne(label)
		for _, m := range g.members {
			g.recheck(m, label)
		}
	}
	key := catalogue.NewKey(label, views)
	if key != nil {
		g.parity.Annotate(key)
	}
	result := catalogue.Lookup{Key: key, Away: away, At: time.Now()}
	g.lookups.Put(label, result)
	return result
}

// listLoop lists a member's keys now, at every interval, and when woken.
func (g *Group) listLoop(ctx context.Context, m *member) {
	for first := true; ; first = false {
		start := time.Now()
		err := g.list(ctx, m)
		listed := time.Now()
		wait := max(g.config.CatalogueInterval, listingShare*listed.Sub(start))
		if err != nil {
			wait = min(g.config.CatalogueInterval, catalogueRetry)
		}
		if first {
			g.listedOnce.Done()
		}
		select {
		case <-ctx.Done():
			return
		case <-m.refresh:
			// Requests may wake the loop often. Listings must not follow each other without a
			// pause.
			pause(ctx, catalogueRetry-time.Since(listed))
		case <-time.After(wait):
		}
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// list reads all keys of a member into the catalogue.
func (g *Group) list(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, catalogueTimeout)
	defer cancel()
	began := time.Now()
	incarnation := m.incarnation()
	if incarnation != m.admitted.Load() {
		g.admit(m)
	}
	list, err := m.Token.Keys(ctx)
	if err == nil && m.incarnation() != incarnation {
		err = replacedError("list keys")
	}
	if err != nil && g.ctx.Err() != nil {
		return err // the group ends: that says nothing of the HSM
	}
	failed := err != nil
	news := failed != m.listingFailed.Swap(failed)
	if failed {
		g.mu.Lock()
		if news {
			g.logListingFailure(m, err)
		}
		g.listingDone(m, began, err)
		g.mu.Unlock()
		return err
	}
	list, unreadable := hsm.SplitUnreadable(list)
	objects := catalogue.ByLabel(hsm.ReadBy(g.config.KeyVersion, list))
	g.mu.Lock()
	hidden := g.recordUnreadable(m, objects, unreadable)
	g.vet(m, objects)
	m.vetting.Store(false)
	changed := catalogue.ChangedLabels(m.objects, objects)
	read := m.objects == nil || len(changed) > 0 || hidden || g.expireRefusedUsages(time.Now())
	m.objects = objects
	m.listed = time.Now()
	m.unsaved = m.unsaved || read
	unsaved := m.unsaved || g.store.IsMissing(g.store.CatalogueFile(m.Name))
	m.unsaved = false
	if read {
		g.parity.Listing = m.bit
		g.rebuild()
		g.parity.Listing = 0
		g.recheck(m, changed...)
	}
	g.listingDone(m, began, nil)
	g.mu.Unlock()
	if read {
		g.log.Info(
			"key catalogue read",
			zap.String("hsm", m.Name),
			zap.Int("objects", len(list)),
			zap.Int("labels", len(objects)),
			zap.Int("changed", len(changed)),
		)
	}
	if unsaved && !g.saveCatalogue(m, list) {
		g.mu.Lock()
		m.unsaved = true
		g.mu.Unlock()
	}
	g.saveParity()
	return nil
}

// logListingFailure logs that an HSM's keys cannot be listed, and the consequences. Requires
// Group.mu.
func (g *Group) logListingFailure(m *member, err error) {
	if m.objects != nil {
		g.log.Warn(
			"the keys cannot be listed; what was last seen stays in use",
			zap.String("hsm", m.Name),
			zap.Error(err),
		)
		return
	}
	g.log.Error(
		"the keys of this HSM were never listed: the other HSMs serve, and this one may be "+
			"unable to decrypt what they encrypt; no key is ENABLED for CreateKey until it is back",
		zap.String("hsm", m.Name),
		zap.Error(err),
	)
}

// rebuild builds the catalogue from all members. Requires Group.mu.
func (g *Group) rebuild() {
	next := &catalogue.Catalogue{Keys: map[string]*catalogue.Key{}}
	clear(g.parity.Detected)
	for _, m := range g.members {
		if m.objects == nil {
			next.Unknown |= m.bit
		}
		for label := range m.objects {
			if next.Keys[label] == nil {
				next.Keys[label] = g.newKeyOf(label)
			}
		}
	}
	g.publish(next)
}

// rebuildOne rebuilds one label of the catalogue. Requires Group.mu.
func (g *Group) rebuildOne(label string) {
	old := g.catalogue.Load()
	next := &catalogue.Catalogue{Keys: maps.Clone(old.Keys), Unknown: old.Unknown}
	delete(next.Keys, label)
	delete(g.parity.Detected, label)
	if key := g.newKeyOf(label); key != nil {
		next.Keys[label] = key
	}
	g.publish(next)
}

// newKeyOf merges one label from all members and records the differences. Requires Group.mu.
func (g *Group) newKeyOf(label string) *catalogue.Key {
	views := g.views(label)
	key := catalogue.NewKey(label, views)
	if key != nil {
		g.parity.Record(key)
		g.parity.CompareViews(label, views)
	}
	return key
}

// loggedGone is how many vanished keys a log line names.
const loggedGone = 10

// publish replaces the catalogue and updates the findings. Requires Group.mu.
func (g *Group) publish(next *catalogue.Catalogue) {
	before := g.catalogue.Swap(next)
	g.parity.Prune(next)
	g.updateFindings()
	if before == nil {
		return
	}
	var gone []string
	for label := range before.Keys {
		if next.Keys[label] == nil {
			gone = append(gone, label)
		}
	}
	slices.Sort(gone)
	if len(gone) > 0 {
		g.log.Warn(
			"keys are gone from every HSM of the group",
			zap.Int("keys", len(gone)),
			zap.Strings("labels", hsm.ShowLabels(gone[:min(len(gone), loggedGone)])),
		)
	}
}

func (g *Group) views(label string) []catalogue.View {
	views := make([]catalogue.View, len(g.members))
	for i, m := range g.members {
		views[i] = catalogue.View{
			Name:    m.Name,
			Bit:     m.bit,
			Seen:    m.objects != nil,
			Away:    g.parity.Away&m.bit != 0,
			Hidden:  m.hasUnreadable(label),
			Objects: m.objects[label],
		}
	}
	return views
}
