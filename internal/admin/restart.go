package admin

// The restart of an HSM: its process ends and another takes its place, while requests go to the
// other HSMs.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

func (a *Service) restartHSM(ctx context.Context, o Order) (string, error) {
	process, ok := a.Processes()[o.HSM]
	if !ok {
		return "", a.unknown(o.HSM)
	}
	// A caller who goes away in the middle must not leave the HSM drained.
	deadline, _ := ctx.Deadline() // the server sets one
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	var drained []*group.Group // by this order
	for _, g := range a.groupsOf(o.HSM) {
		if MemberOf(g, o.HSM).Service != status.Drained {
			drained = append(drained, g)
		}
	}
	err := a.drainForRestart(ctx, drained, o)
	if err != nil {
		return "", err
	}
	start := time.Now()
	before := process.State()
	process.Restart(RestartReason + o.By.String())
	running := func() bool {
		s := process.State()
		return s.Phase == worker.Running && s.PID != before.PID
	}
	failed := func() bool { // the new process, not the old one
		s := process.State()
		return s.Phase == worker.Failed && s.EndedAt.After(start) &&
			(before.PID == 0 || s.Restarts > before.Restarts)
	}
	_ = a.await(ctx, func() bool { return running() || failed() })
	if !running() {
		resumeAll(drained, o.HSM)
		return "", notRunning(o.HSM, process.State())
	}
	message := fmt.Sprintf("%s has a new process, %d", o.HSM, process.State().PID)
	if len(drained) == 0 {
		return message + "; it stays drained.", nil
	}
	err = a.putBack(ctx, drained, o.HSM)
	if err != nil {
		return "", fmt.Errorf("%s; %w", message, err)
	}
	return fmt.Sprintf(
		"%s, and is in service again, after %s.",
		message,
		text.Duration(time.Since(start)),
	), nil
}

// drainForRestart waits a moment for calls in flight; what hangs is not waited for. An HSM
// that does not serve costs nobody anything, also as the last one.
func (a *Service) drainForRestart(ctx context.Context, groups []*group.Group, o Order) error {
	ctx, cancel := context.WithTimeout(ctx, restartDrain)
	defer cancel()
	for i, g := range groups {
		force := o.Force || !Serves(MemberOf(g, o.HSM))
		err := a.drainAll(ctx, []*group.Group{g}, o.HSM, force, "restarting")
		if errors.Is(err, group.ErrLastHSM) {
			resumeAll(groups[:i], o.HSM)
			return err
		}
	}
	return nil
}

// notRunning says what has become of a process that was started and does not run.
func notRunning(name string, s worker.State) error {
	state := "its process is " + string(s.Phase)
	if s.Phase == worker.Failed {
		state = "its process has failed"
	}
	why, next := "no reason is known", "it is tried again automatically"
	if s.LastErr != nil {
		why = s.LastErr.Error()
	}
	if s.Phase == worker.Failed && s.RetryAt.IsZero() {
		next = "fix that and restart it again"
	}
	return fmt.Errorf("%s was restarted, and %s: %s; %s", name, state, why, next)
}
