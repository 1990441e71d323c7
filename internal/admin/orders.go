package admin

// What the admin socket's orders do to the HSMs (those of the kill switch: blocks.go). Each says in
// its answer what has become of it.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/peer"
	"xks-proxy/internal/text"
	"xks-proxy/internal/version"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
)

// ErrStarting is an order that came before the HSMs had started or failed to.
var ErrStarting = errors.New("the proxy is starting")

const (
	// Poll is how often orders and the lock of the socket look whether they can go on.
	Poll = 20 * time.Millisecond
	// restartDrain is how long a restart waits for the calls in flight. Those that hang are what it
	// is for.
	restartDrain = 2 * time.Second
	// RestartReason begins the reason of a process that ended because an operator asked for it.
	RestartReason = "asked for by "
)

func (a *Service) starting() bool { return len(a.Groups()) == 0 }

// HSMs returns the state of all groups and processes. It waits for nothing.
func (a *Service) HSMs() api.List {
	s := api.List{
		Version:   version.Get().Version,
		Starting:  a.starting(),
		Groups:    []status.Group{},
		Processes: map[string]api.Process{},
	}
	for _, g := range a.Groups() {
		s.Groups = append(s.Groups, g.Status())
	}
	for name, p := range a.Processes() {
		s.Processes[name] = api.DescribeProcess(p.State())
	}
	return s
}

// Order is one call that changes something.
type Order struct {
	HSM   string
	Force bool
	By    peer.Peer
}

// ordered logs who gave an order and what came of it.
func (a *Service) ordered(name string, o Order, message string, err error) (string, error) {
	a.Log.Info("admin", zap.String("order", name), zap.String("hsm", o.HSM),
		zap.Bool("force", o.Force), zap.Inline(o.By), zap.String("result", resultOf(err)))
	return message, err
}

// resultOf is what the log says of an order.
func resultOf(err error) string {
	if err != nil {
		return err.Error()
	}
	return "done"
}

// Drain takes an HSM out of service and waits until nothing is in flight on it.
func (a *Service) Drain(ctx context.Context, o Order) (string, error) {
	message, err := a.inTurn(ctx, "a drain", o, a.drainHSM)
	return a.ordered("drain", o, message, err)
}

// Resume puts an HSM back and waits until a probe has let it serve.
func (a *Service) Resume(ctx context.Context, o Order) (string, error) {
	message, err := a.inTurn(ctx, "a resume", o, a.resumeHSM)
	return a.ordered("resume", o, message, err)
}

// Restart gives an HSM a new process. Its requests go to the others meanwhile.
func (a *Service) Restart(ctx context.Context, o Order) (string, error) {
	message, err := a.inTurn(ctx, "a restart", o, a.restartHSM)
	return a.ordered("restart", o, message, err)
}

// inTurn carries out an order when no other is under way for its HSM. Waiting is part of
// the time that the order has.
func (a *Service) inTurn(ctx context.Context, what string, o Order,
	do func(context.Context, Order) (string, error),
) (string, error) {
	if a.starting() {
		return "", fleet.Refuse(
			ErrStarting,
			"the proxy is still starting and waits for its HSMs: nothing was changed; ask again "+
				"in a moment, and see xks-proxy hsm list",
		)
	}
	end, err := a.Turns.Take(ctx, o.HSM, what+" by "+o.By.String())
	if err != nil {
		return "", err
	}
	defer end()
	err = peer.Gone(ctx) // it may have waited long for its turn
	if err != nil {
		return "", err
	}
	return do(ctx, o)
}

// groupsOf are the groups that an HSM serves in: one, mostly.
func (a *Service) groupsOf(name string) []*group.Group {
	var found []*group.Group
	for _, g := range a.Groups() {
		if MemberOf(g, name).HSM != "" {
			found = append(found, g)
		}
	}
	return found
}

// MemberOf is the zero status for an HSM that is not in the group.
func MemberOf(g *group.Group, name string) status.Member {
	for _, m := range g.Status().Members {
		if m.HSM == name {
			return m
		}
	}
	return status.Member{}
}

// Serves reports whether an HSM gets requests.
func Serves(m status.Member) bool {
	return m.Service == status.InService || m.Service == status.Returning
}

func (a *Service) unknown(name string) error {
	var known []string
	for _, g := range a.Groups() {
		for _, m := range g.Status().Members {
			known = append(known, m.HSM)
		}
	}
	return fleet.Refuse(
		group.ErrUnknownHSM,
		"no HSM group has an HSM named %s; %s",
		schema.QuoteName(name),
		text.DidYouMean(name, known),
	)
}

// drainHSM also waits for calls that requests have given up: they still run in the module.
func (a *Service) drainHSM(ctx context.Context, o Order) (string, error) {
	groups := a.groupsOf(o.HSM)
	if len(groups) == 0 {
		return "", a.unknown(o.HSM)
	}
	err := a.drainAll(ctx, groups, o.HSM, o.Force, "draining")
	if err != nil {
		return "", err
	}
	process := a.Processes()[o.HSM]
	err = a.await(
		ctx,
		func() bool { return process.State().InFlight == 0 },
	) // a probe's call ends soon
	if err != nil {
		return "", fmt.Errorf(
			"%s gets no new request, and no request waits for it, but %s in the module. It stays "+
				"drained. xks-proxy hsm restart %s ends its process and leaves it drained",
			o.HSM,
			callsHang(process.State().InFlight),
			o.HSM,
		)
	}
	message := fmt.Sprintf(
		"%s is drained: nothing is in flight on it, and it gets no request until you resume it.",
		o.HSM,
	)
	for _, g := range groups {
		if !othersServe(g, o.HSM) {
			message += fmt.Sprintf(
				"\nNo other HSM of %s serves: requests to its keys fail until one does.",
				g.Name(),
			)
		}
	}
	return message, nil
}

// drainAll is for every group or, where one refuses, for none.
func (a *Service) drainAll(
	ctx context.Context,
	groups []*group.Group,
	name string,
	force bool,
	what string,
) error {
	var began []*group.Group // that did not have it drained before
	var late error
	for _, g := range groups {
		before := MemberOf(g, name).Service
		err := g.Drain(ctx, name, force)
		switch {
		case errors.Is(err, group.ErrLastHSM):
			resumeAll(began, name)
			return fleet.Refuse(
				group.ErrLastHSM,
				"%s is the only HSM of the group %s that can serve: %s it would fail every "+
					"request to its keys. Nothing was changed; --force does it anyway",
				name,
				g.Name(),
				what,
			)
		case ctx.Err() != nil && err != nil:
			late = fmt.Errorf(
				"%s gets no new request, but %d were still in flight after the time given; it "+
					"stays drained: ask again, or resume it",
				name,
				MemberOf(g, name).InFlight,
			)
		case err != nil:
			return err
		}
		if before != status.Drained {
			began = append(began, g)
		}
	}
	return late
}

func othersServe(g *group.Group, name string) bool {
	for _, m := range g.Status().Members {
		if m.HSM != name && Serves(m) {
			return true
		}
	}
	return false
}

func (a *Service) resumeHSM(ctx context.Context, o Order) (string, error) {
	groups := a.groupsOf(o.HSM)
	if len(groups) == 0 {
		return "", a.unknown(o.HSM)
	}
	start := time.Now()
	err := a.putBack(ctx, groups, o.HSM)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is in service, after %s.", o.HSM, text.Duration(time.Since(start))), nil
}

// putBack waits for a probe that ended after it began: an older one says nothing of what
// was done to the HSM meanwhile.
func (a *Service) putBack(ctx context.Context, groups []*group.Group, name string) error {
	start := time.Now()
	for _, g := range groups {
		err := g.Resume(name)
		if err != nil {
			return err
		}
		g.Probe(name)
	}
	for _, g := range groups {
		err := a.await(ctx, func() bool {
			m := MemberOf(g, name)
			return Serves(m) && m.Health.Status != status.Unavailable &&
				m.Health.Checked.After(start)
		})
		if err != nil {
			m := MemberOf(g, name)
			return fmt.Errorf(
				"%s is no longer drained, but it is %s in the group %s: %s It comes back as soon "+
					"as a probe succeeds",
				name,
				m.Service,
				g.Name(),
				text.Sentence(cmp.Or(m.Reason, m.Health.Reason, "no probe has succeeded yet")),
			)
		}
	}
	return nil
}

func (a *Service) await(ctx context.Context, done func() bool) error {
	beat := time.NewTicker(Poll)
	defer beat.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beat.C:
		}
	}
	return nil
}

// resumeAll takes back what an order began. The groups know the HSM: they drained it.
func resumeAll(groups []*group.Group, name string) {
	for _, g := range groups {
		_ = g.Resume(name)
	}
}

func callsHang(n int) string {
	if n == 1 {
		return "1 call hangs"
	}
	return fmt.Sprintf("%d calls hang", n)
}
