package probe

// The process in which hsm probe has the module tried. It reports each step before it begins, so
// that a crash or a hang leaves behind what was found until then.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/subprocess"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
)

const probeCommand = "probe-module"

// probeMark opens each line of the child that is for the parent: modules print, too.
const probeMark = "xks-proxy-probe: "

// probeMessage is one line of the child.
type probeMessage struct {
	Step    string               `json:"step,omitempty"` // "": the end
	Text    string               `json:"text,omitempty"`
	Report  pkcs11.ProbeReport   `json:"report"`
	Tokens  []pkcs11.ProbeReport `json:"tokens,omitempty"`
	Error   string               `json:"error,omitempty"`
	Refused bool                 `json:"refused,omitempty"` // the error is about the PIN
}

// probeRun is what became of one child.
type probeRun struct {
	report pkcs11.ProbeReport
	tokens []pkcs11.ProbeReport
	step   string // that was begun last
	text   string
	ended  bool // the child came to its end
	failed string
	pin    bool
}

// errModuleDied is a probe that ended because the module crashed or hung.
var errModuleDied = errors.New("the module crashed or hung")

// runProbe runs one child. Its error is errModuleDied, or what the probe found impossible.
func (f *probeFlags) runProbe(ctx context.Context, o pkcs11.ProbeOptions) (probeRun, error) {
	input, err := json.Marshal(o)
	if err != nil {
		return probeRun{}, err
	}
	defer clear(input)
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	hung := time.AfterFunc(f.timeout, cancel)
	defer hung.Stop()
	var mu sync.Mutex // the lines come from another goroutine, which may outlast the child
	var run probeRun
	prober, err := fleet.ProbeConfinement(f.hsm).Confine(subprocess.Child{
		Arguments:   []string{"hsm", probeCommand},
		Environment: schema.ChildEnvironment(f.hsm.Environment...), Input: input,
		Line: func(line string) {
			mu.Lock()
			defer mu.Unlock()
			if run.take(line) {
				hung.Reset(f.timeout)
				if run.text != "" && !run.ended {
					f.progress("%s", run.text)
				}
			}
		},
	})
	var complaint string
	if err == nil {
		_, complaint, err = prober.Run(limited)
	}
	mu.Lock()
	defer mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return run, subprocess.ErrInterrupted
	case limited.Err() != nil:
		return run, fmt.Errorf(
			"%w: it did not return within %v while %s%s",
			errModuleDied,
			f.timeout,
			run.doing(),
			saidBy(complaint),
		)
	case run.ended && run.failed != "" && run.pin:
		return run, command.ExitError{Code: fleet.ExitPINRefused, Err: errors.New(run.failed)}
	case run.ended && run.failed != "":
		return run, errors.New(run.failed)
	case run.ended:
		return run, nil
	case err == nil:
		err = errors.New("it ended the process")
	}
	return run, fmt.Errorf(
		"%w: %s while %s%s",
		errModuleDied,
		howEnded(err),
		run.doing(),
		saidBy(complaint),
	)
}

// take reads a line of the child; false if it is not for us.
func (r *probeRun) take(line string) bool {
	_, text, ours := strings.Cut(line, probeMark)
	var m probeMessage
	if !ours || json.Unmarshal([]byte(text), &m) != nil {
		return false
	}
	r.report, r.text = m.Report, m.Text
	if m.Step != "" {
		r.step = m.Step
		return true
	}
	r.tokens, r.failed, r.pin, r.ended = m.Tokens, m.Error, m.Refused, true
	return true
}

func (r *probeRun) doing() string {
	if r.text == "" {
		return "starting"
	}
	return r.text
}

// howEnded is an exec error in words: "signal: segmentation fault".
func howEnded(err error) string {
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return ended.ProcessState.String()
	}
	return err.Error()
}

// saidBy is the child's standard error as part of a sentence: its first line.
func saidBy(complaint string) string {
	first, _, _ := strings.Cut(complaint, "\n")
	if first == "" {
		return ""
	}
	return fmt.Sprintf(" (it said: %q)", first)
}

// NewChild is the child's side.
func NewChild() *cobra.Command {
	return &cobra.Command{
		Use:    probeCommand,
		Short:  "Try a module as the order on standard input says",
		Hidden: true,
		Args:   command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var o pkcs11.ProbeOptions
			err := command.ReadChildOrder(c, "hsm probe", &o)
			if err != nil {
				return err
			}
			return carryOutProbe(c, o)
		},
	}
}

func carryOutProbe(c *cobra.Command, o pkcs11.ProbeOptions) error {
	send := func(m probeMessage) {
		text, err := json.Marshal(m)
		if err == nil {
			_, err = fmt.Fprintf(c.OutOrStdout(), "\n%s%s\n", probeMark, text)
		}
		if err != nil {
			fmt.Fprintln(c.ErrOrStderr(), err) // the parent gets no message from the child
		}
	}
	step := func(name, text string, soFar pkcs11.ProbeReport) {
		send(probeMessage{Step: name, Text: text, Report: soFar})
	}
	var end probeMessage
	var err error
	if o.ListsOnly() {
		step("load", "loading the module", end.Report)
		end.Tokens, err = pkcs11.ProbeTokens(o.Config.Module)
	} else {
		end.Report, err = pkcs11.Probe(c.Context(), o, step)
	}
	if err != nil {
		end.Error = err.Error()
		end.Refused = errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
	}
	send(end)
	return nil
}
