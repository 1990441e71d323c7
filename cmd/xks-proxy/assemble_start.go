package main

// What the HSMs' start means: when serving begins, and when it does not.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
)

// startGrace is how long an HSM may still take to start once every group has one that serves.
const startGrace = 2 * time.Second

// outcomes are the HSMs that have started (nil) or failed to, by name.
type outcomes map[string]error

// errStopped is a start that was called off: no verdict on any HSM.
var errStopped = errors.New("told to stop before it began to serve")

// waitForHSMs waits until each HSM has started or failed to. One that hangs is not
// waited for while every group has another. errStopped if ctx ends first.
func (p *parts) waitForHSMs(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, hsmStartTimeout)
	defer cancel()
	type answer struct {
		name string
		err  error
	}
	answers := make(chan answer, len(p.workers))
	for name, w := range p.workers {
		go func() { answers <- answer{name, w.Ready(limited)} }()
	}
	known := outcomes{}
	var grace <-chan time.Time
	for len(known) < len(p.workers) {
		select {
		case a := <-answers:
			known[a.name] = a.err
			if grace == nil && p.everyGroupServes(known) {
				grace = time.After(startGrace)
			}
		case <-grace:
			return p.judge(known)
		case <-ctx.Done():
			return errStopped
		}
	}
	if ctx.Err() != nil { // what was known last may be its doing
		return errStopped
	}
	return p.judge(known)
}

func (p *parts) everyGroupServes(known outcomes) bool {
	for _, g := range p.config.HSMGroups {
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

// judge decides whether to serve. An HSM that is away is for the others to stand
// in for (R1); where all of a group are, start_without_hsms says whether to wait for one. One that was
// reached before is away, whatever it says now. One that was never reached and refuses for a reason that
// no waiting mends is taken for a mistake in the configuration, which is better heard of now than at the
// first failover.
func (p *parts) judge(known outcomes) error {
	var failed, mistakes []error
	for _, h := range p.config.HSMs {
		err, ended := known[h.Name]
		switch {
		case !ended:
			p.log.Error("an HSM is slow to start; serving begins without it", zap.String("hsm", h.Name))
		case err == nil:
		case hsm.IsConfig(err) && !p.reachedBefore(h.Name):
			mistakes = append(mistakes, err)
		default:
			failed = append(failed, err)
		}
	}
	switch {
	case len(mistakes) == len(p.config.HSMs):
		return fmt.Errorf("no HSM can be used: %w%s", oneLine(mistakes), whatNow(mistakes))
	case len(mistakes) > 0:
		return fmt.Errorf("an HSM that was never reached before cannot be used: %w%s", oneLine(mistakes), whatNow(mistakes))
	}
	for _, err := range failed {
		p.log.Error("an HSM is away; serving begins without it", zap.Error(err))
	}
	return p.judgeGroups(known)
}

// whatNow is what to do about errors that end the program, where they do not say it.
func whatNow(mistakes []error) string {
	for _, err := range mistakes {
		if errors.Is(err, hsm.ErrPINIncorrect) {
			return "; correct the PIN and start again"
		}
	}
	return ""
}

// judgeGroups is about the groups of which no HSM has started.
func (p *parts) judgeGroups(known outcomes) error {
	for _, g := range p.config.HSMGroups {
		var failed []error
		for _, m := range g.HSMs {
			failed = append(failed, known[m.HSM])
		}
		switch {
		case slices.Contains(failed, nil):
		case p.config.StartWithoutHSMs == startExit:
			return fmt.Errorf("no HSM of the HSM group %s can be used (start_without_hsms: wait would wait for one): %w%s", g.Name, oneLine(failed), whatNow(failed))
		default:
			p.log.Error("every HSM of the group is away; it serves as soon as one comes", zap.String("hsm_group", g.Name))
		}
	}
	return nil
}

// startExit is the value of start_without_hsms that does not wait.
const startExit = "exit"

func (p *parts) reachedBefore(name string) bool {
	for _, g := range p.config.HSMGroups {
		if hsm.Remembered(p.config.StateDirectory, g.Name, name) {
			return true
		}
	}
	return false
}

// checkStateDirectory refuses a directory that cannot be written: without the
// memory in it, a restart while one HSM is away could encrypt under a version that it never had.
func checkStateDirectory(directory string) error {
	if directory == "" {
		return nil
	}
	err := os.MkdirAll(directory, 0o700)
	if err == nil {
		var probe *os.File
		probe, err = os.CreateTemp(directory, ".writable-*")
		if err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf(`state_directory cannot be written; give the proxy's user that directory, or set it to "" to do without: %w`, err)
	}
	return nil
}

// oneLine is errors.Join for an error that is one sentence to its reader.
type oneLine []error

func (l oneLine) Error() string {
	var parts []string
	for _, err := range l {
		parts = append(parts, err.Error())
	}
	return strings.Join(parts, "; ")
}

func (l oneLine) Unwrap() []error { return l }
