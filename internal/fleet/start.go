package fleet

// What the HSMs' start means: when serving begins, and when it does not.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/worker"
)

// startGrace is how long an HSM may still take to start once every group has one that serves.
const startGrace = 2 * time.Second

// outcomes are the HSMs that have started (nil) or failed to, by name.
type outcomes map[string]error

// ErrStopped is the error of a start that was called off before any HSM was judged.
var ErrStopped = errors.New("stopped before it began to serve")

// hsmStart is the start of HSMs, of all of a configuration or of those that a reload adds or
// changes.
type hsmStart struct {
	config  *config.Config
	log     *zap.Logger
	hsms    map[string]*runningHSM // of the configuration
	started []string               // those that are started now; the others run on
	serving *Generation            // meanwhile; nil when the program starts
}

// Reload reports whether a generation serves meanwhile.
func (s hsmStart) Reload() bool { return s.serving != nil }

// wait waits until each HSM has started or failed to, and judges. One that hangs is not waited for
// while every group has another, but in a reload, which has time. ErrStopped if ctx ends first.
func (s hsmStart) wait(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, s.limit())
	defer cancel()
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(s.started))
	for _, name := range s.started {
		go func() { answers <- answer{name, s.hsms[name].Ready(limited)} }()
	}
	known := s.runOn()
	var grace <-chan time.Time
	for range s.started {
		select {
		case a := <-answers:
			known[a.name] = a.err
			if grace == nil && !s.Reload() && s.everyGroupServes(known) {
				grace = time.After(startGrace)
			}
		case <-grace:
			return s.judge(known)
		case <-ctx.Done():
			return ErrStopped
		}
	}
	if ctx.Err() != nil { // what was known last may be its doing
		return ErrStopped
	}
	return s.judge(known)
}

// limit is how long the start waits for HSMs that neither open nor fail. If a late HSM ends the
// start or the reload, each HSM has all of its start_timeout.
func (s hsmStart) limit() time.Duration {
	limit := hsmStartTimeout
	if s.config.StartWithoutHSMs != startExit && !s.Reload() {
		return limit
	}
	for _, h := range s.config.HSMs {
		if slices.Contains(s.started, h.Name) {
			limit = max(limit, h.StartTimeout)
		}
	}
	return limit
}

// runOn are the HSMs whose processes were there before.
func (s hsmStart) runOn() outcomes {
	known := outcomes{}
	for name, h := range s.hsms {
		if slices.Contains(s.started, name) {
			continue
		}
		state := h.State()
		known[name] = nil
		if state.Phase != worker.Running {
			known[name] = orElseError(
				state.LastErr,
				fmt.Errorf("%s: its process is %s", name, state.Phase),
			)
		}
	}
	return known
}

func orElseError(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (s hsmStart) everyGroupServes(known outcomes) bool {
	for _, g := range s.config.HSMGroups {
		serves := false
		for _, m := range g.HSMs {
			err, ended := known[m.HSM]
			serves = serves || ended && err == nil
		}
		if !serves {
			return false
		}
	}
	return true
}

// judge decides whether to serve. An HSM that is away is for the others to stand in for (R1); where
// all of a group are, start_without_hsms says whether to wait for one. One that was reached before
// is away, whatever it says now. One that was never reached and refuses for a reason that waiting
// does not fix is taken for a mistake in the configuration, which is better heard of now than at
// the first failover.
func (s hsmStart) judge(known outcomes) error {
	var failed, mistakes []error
	for _, h := range s.config.HSMs {
		if s.Reload() && !slices.Contains(s.started, h.Name) {
			continue // nothing was changed
		}
		err, ended := known[h.Name]
		switch {
		case s.worsens(h.Name, err, ended):
			return s.worse(h.Name, err)
		case !ended:
			s.log.Error(
				"an HSM is slow to start; serving begins without it",
				zap.String("hsm", h.Name),
			)
		case err == nil:
		case s.mistake(h.Name, err):
			mistakes = append(mistakes, err)
		default:
			failed = append(failed, err)
		}
	}
	switch {
	case len(mistakes) > 0 && len(mistakes) == len(s.config.HSMs):
		return fmt.Errorf("no HSM can be used: %w%s", OneLine(mistakes), s.whatNow(mistakes))
	case len(mistakes) > 0 && s.Reload():
		return fmt.Errorf(
			"an HSM that is new or changed cannot be used: %w%s",
			OneLine(mistakes),
			s.whatNow(mistakes),
		)
	case len(mistakes) > 0:
		return fmt.Errorf(
			"an HSM that was never reached before cannot be used: %w%s",
			OneLine(mistakes),
			s.whatNow(mistakes),
		)
	}
	for _, err := range failed {
		s.log.Error("an HSM is away; serving begins without it", zap.Error(err))
	}
	return s.judgeGroups(known)
}

// mistake reports whether err is taken for one of the configuration. At a reload a PIN that is
// refused is one in any case: it has just been changed.
func (s hsmStart) mistake(name string, err error) bool {
	pin := errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
	return hsm.IsConfig(err) && (!s.reachedBefore(name) || s.Reload() && pin)
}

// worsens reports whether an HSM works with the settings that it has, and did not start with those
// that it would get.
func (s hsmStart) worsens(name string, err error, ended bool) bool {
	if !s.Reload() || ended && err == nil {
		return false
	}
	old := s.serving.hsms[name]
	return old != nil && old.State().Phase == worker.Running
}

func (s hsmStart) worse(name string, err error) error {
	err = orElseError(err, fmt.Errorf("%s: it did not answer within %s", name, s.limit()))
	return fmt.Errorf(
		"the HSM %s works with its old settings and not with the new ones: %w%s",
		name,
		err,
		s.whatNow([]error{err}),
	)
}

// whatNow is what to do about errors that end the program or a reload, where they do not say it.
func (s hsmStart) whatNow(mistakes []error) string {
	for _, err := range mistakes {
		switch {
		case !errors.Is(err, hsm.ErrPINIncorrect):
		case s.Reload():
			return "; correct the PIN and reload again"
		default:
			return "; correct the PIN and start again"
		}
	}
	return ""
}

// judgeGroups is about the groups of which no HSM has started.
func (s hsmStart) judgeGroups(known outcomes) error {
	for _, g := range s.config.HSMGroups {
		var failed []error
		for _, m := range g.HSMs {
			failed = append(failed, known[m.HSM])
		}
		switch {
		case slices.Contains(failed, nil), s.Reload() && !s.concerns(g):
		case s.config.StartWithoutHSMs == startExit:
			return fmt.Errorf(
				"no HSM of the HSM group %s can be used (start_without_hsms: wait would wait for "+
					"one): %w%s",
				g.Name,
				OneLine(failed),
				s.whatNow(failed),
			)
		default:
			s.log.Error(
				"every HSM of the group is away; it serves as soon as one comes",
				zap.String("hsm_group", g.Name),
			)
		}
	}
	return nil
}

// concerns reports whether an HSM of the group is started now.
func (s hsmStart) concerns(g config.Group) bool {
	return slices.ContainsFunc(
		g.HSMs,
		func(m config.GroupMember) bool { return slices.Contains(s.started, m.HSM) },
	)
}

// startExit is the value of start_without_hsms that does not wait.
const startExit = "exit"

func (s hsmStart) reachedBefore(name string) bool {
	for _, g := range s.config.HSMGroups {
		if catalogue.HasSavedCatalogue(s.config.StateDirectory, g.Name, name) {
			return true
		}
	}
	return false
}

// OneLine is errors.Join with the texts in one line, separated by semicolons.
type OneLine []error

func (l OneLine) Error() string {
	var parts []string
	for _, err := range l {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

func (l OneLine) Unwrap() []error { return l }
