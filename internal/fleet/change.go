package fleet

// How a fleet starts and changes: Prepare builds what a configuration needs beside what runs, and
// Publish puts it into effect.

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
)

const (
	hsmStartTimeout   = 15 * time.Second // until each HSM is logged in or has failed
	firstProbeTimeout = 5 * time.Second  // until each HSM's keys are listed and it is probed
	HSMCloseTimeout   = 5 * time.Second
	turnTimeout       = 40 * time.Second // for orders that are under way; most take less
)

// Prepare makes the generation of a configuration, ready to serve, beside the current one: a
// process or a group whose settings have not changed is the same in both. After an error nothing
// has changed, and what was built has been closed. The error is ErrStopped if ctx ended first.
func (f *Fleet) Prepare(
	ctx context.Context,
	c *config.Config,
	s *config.Secrets,
) (*Generation, error) {
	next, err := f.begin(c, s)
	if err != nil {
		return nil, err
	}
	err = f.Finish(ctx, next)
	if err != nil {
		f.Abandon(next)
		return nil, err
	}
	return next, nil
}

// Open begins the first generation, as the program starts. It is published when it can serve; close
// ends it if it cannot.
func (f *Fleet) Open(c *config.Config, s *config.Secrets) error {
	first, err := f.begin(c, s)
	if err != nil {
		return err
	}
	f.Starting.Store(first)
	return nil
}

// begin starts the processes that the current generation lacks, and waits for none.
func (f *Fleet) begin(c *config.Config, s *config.Secrets) (*Generation, error) {
	next := &Generation{
		Number:   1,
		LoadedAt: time.Now(),
		Config:   c,
		Secrets:  s,
		hsms:     map[string]*runningHSM{},
	}
	old := f.Current.Load()
	if old != nil {
		next.Number = old.Number + 1
	}
	for _, h := range c.HSMs {
		spec := f.specOf(c, h, s)
		if old != nil {
			running := old.hsms[h.Name]
			if running != nil && running.fits(spec) {
				next.hsms[h.Name] = running
				continue
			}
		}
		started, err := f.start(spec, f.log)
		if err != nil {
			f.Abandon(next)
			return nil, err
		}
		next.hsms[h.Name] = started
		next.started = append(next.started, h.Name)
	}
	return next, nil
}

// Finish waits for the processes that were started, judges them, and makes the groups. What it made
// is in next, also after an error.
func (f *Fleet) Finish(ctx context.Context, next *Generation) error {
	old := f.Current.Load()
	start := hsmStart{
		config:  next.Config,
		log:     f.log,
		hsms:    next.hsms,
		started: next.started,
		serving: old,
	}
	err := start.wait(ctx)
	if err != nil {
		return err
	}
	var made []*runningGroup
	for _, g := range next.Config.HSMGroups {
		settings := groupSettings(next.Config, g, next.hsms)
		before := old.group(g.Name)
		if before != nil && sameGroup(before.settings, settings) {
			next.Groups = append(next.Groups, before)
			continue
		}
		group, err := f.startGroup(settings, before, old != nil)
		if err != nil {
			return err
		}
		next.Groups = append(next.Groups, group)
		made = append(made, group)
	}
	return f.waitFirst(ctx, made, old)
}

// startGroup makes a group; one that takes the place of another, or that may not come to serve,
// leaves the state directory alone.
func (f *Fleet) startGroup(
	settings group.Config,
	before *runningGroup,
	provisional bool,
) (*runningGroup, error) {
	full := settings
	full.Log, full.Provisional = f.log, provisional
	if before != nil {
		full.Predecessor = before.Group
	}
	group, err := group.New(full)
	if err != nil {
		return nil, err
	}
	return &runningGroup{Group: group, settings: settings}, nil
}

// sameGroup compares settings as groupSettings makes them. Tokens are compared by identity.
func sameGroup(a, b group.Config) bool {
	sameMembers := slices.Equal(a.Members, b.Members)
	a.Members, b.Members = nil, nil
	return sameMembers && reflect.DeepEqual(a, b)
}

// waitFirst waits until the HSMs of new groups have been looked at. A group that serves now is not
// given up for one that cannot.
func (f *Fleet) waitFirst(ctx context.Context, made []*runningGroup, old *Generation) error {
	first, cancel := context.WithTimeout(ctx, firstProbeTimeout)
	defer cancel()
	for _, group := range made {
		err := group.WaitFirstProbes(first)
		switch {
		case ctx.Err() != nil:
			return ErrStopped
		case err != nil:
			f.log.Warn(
				"an HSM has not been looked at yet; serving begins without it",
				zap.String("hsm_group", group.Name()),
			)
		}
		before := old.group(group.Name())
		if before != nil && before.CanServe() && !group.CanServe() {
			return fmt.Errorf(
				"the HSM group %s serves now and would not serve with the new settings: %s",
				group.Name(),
				whyNot(group),
			)
		}
	}
	return nil
}

// whyNot is what keeps a group from serving.
func whyNot(g *runningGroup) error {
	var reasons OneLine
	for _, h := range g.Health() {
		reasons = append(reasons, fmt.Errorf("%s: %s", h.HSM, h.Reason))
	}
	return reasons
}

// Publish puts a prepared generation into effect. It calls put when nothing can prevent the change
// any more; put sends requests to the new groups. If put fails, or an order for an HSM does not end
// in time, nothing has changed.
//
// Publish waits for orders that are under way for the HSMs concerned, and new orders wait for
// Publish: an order acts on a group that will be gone, so its effect would be lost.
func (f *Fleet) Publish(ctx context.Context, next *Generation, put func() error) error {
	old := f.Current.Load()
	limited, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	end, err := f.Turns.takeAll(limited, concerned(old, next), "a reload")
	if err != nil {
		return err
	}
	defer end()
	made, _ := next.without(old)
	gone, _ := old.without(next)
	keepDrained(limited, old, made)
	err = put()
	if err != nil {
		return err
	}
	for _, h := range next.hsms {
		h.spec.confinement.update(next.Config)
	}
	f.Current.Store(next)
	f.Starting.Store(nil)
	for _, group := range gone {
		group.StopSaving()
	}
	if old != nil { // at the start nobody had what they take over
		for _, group := range made {
			group.TakeOver()
		}
	}
	f.retire(old, next)
	return nil
}

// concerned are the HSMs to whose groups or processes something happens.
func concerned(old, next *Generation) []string {
	names := map[string]bool{}
	add := func(groups []*runningGroup, hsms []*runningHSM) {
		for _, group := range groups {
			for _, m := range group.settings.Members {
				names[m.Name] = true
			}
		}
		for _, h := range hsms {
			names[h.spec.hsm.Name] = true
		}
	}
	add(old.without(next))
	add(next.without(old))
	var list []string
	for name := range names {
		list = append(list, name)
	}
	return list
}

// keepDrained drains, in groups that were made anew, what an operator had drained.
func keepDrained(ctx context.Context, old *Generation, made []*runningGroup) {
	if old == nil {
		return
	}
	drained := map[string]bool{}
	for _, group := range old.Groups {
		for _, m := range group.Status().Members {
			if m.Service == status.Drained {
				drained[m.HSM] = true
			}
		}
	}
	for _, group := range made {
		for _, m := range group.settings.Members {
			if drained[m.Name] {
				_ = group.Drain(
					ctx,
					m.Name,
					true,
				) // the group has it, and no request yet that could be waited for
			}
		}
	}
}
