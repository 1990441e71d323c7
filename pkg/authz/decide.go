package authz

// The decision: which policies are evaluated, and what their results and failures mean.

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// Mode is what a denial does.
type Mode string

// The modes. In shadow mode a denial is reported and the request goes on.
const (
	ModeEnforce Mode = "enforce"
	ModeShadow  Mode = "shadow"
)

// ParseMode returns the mode of that name, or an error that lists the modes.
func ParseMode(name string) (Mode, error) {
	switch m := Mode(name); m {
	case ModeEnforce, ModeShadow:
		return m, nil
	default:
		return "", fmt.Errorf(
			"policy mode %q: use %s or %s", boundedText(name, maxName), ModeEnforce, ModeShadow,
		)
	}
}

const (
	maxErrors    = 8   // in one decision
	maxErrorText = 512 // bytes of each
)

// Decision is the result of one request. It is for the log and for metrics. None of its text may
// reach the caller (X6).
type Decision struct {
	Allowed bool // the request may go on
	Shadow  bool // the policies deny it, and only shadow mode lets it go on

	// Policies are the ids of those that decided: the forbids that applied (those that failed
	// first), else the permits that matched, in the order of the files. Empty where nothing
	// permits.
	Policies []string

	// Errors say why policies could not be evaluated: at most 8, each at most 512 bytes.
	Errors []string
}

// Explain returns the reason in one line, for the log (Z2) and for people.
func (d Decision) Explain() string {
	if d.Allowed && !d.Shadow {
		return "permitted by " + strings.Join(d.Policies, ", ")
	}
	why := "no policy permits it"
	if len(d.Policies) > 0 {
		why = "forbidden by " + strings.Join(d.Policies, ", ")
	}
	return strings.Join(append([]string{why}, d.Errors...), "; ")
}

// Decide decides whether the request may use the key. It is denied unless a permit matches and no
// forbid applies. Nil policies deny: do not call Decide for a key store without policies. Every
// mode but ModeShadow enforces.
func (p *Policies) Decide(mode Mode, r Request) Decision {
	d := p.decide(&r)
	if mode == ModeShadow && !d.Allowed {
		d.Allowed, d.Shadow = true, true
	}
	return d
}

func (p *Policies) decide(r *Request) Decision {
	if p == nil {
		return Decision{Errors: []string{"no policies are loaded"}}
	}
	err := r.check()
	if err != nil {
		return Decision{Errors: []string{err.Error()}}
	}
	world := newEntities(r)
	unreadable := r.unreadable()
	if world.principal.uid.Type == typeUnknown {
		unreadable |= readsPrincipal
	}
	asked := p.choose(world, unreadable)
	world.wanted = asked.reads
	verdict, details := cedar.Authorize(asked, world, cedar.Request{
		Principal: world.principal.uid, Action: actionUID(r.Action), Resource: world.key,
		Context: r.context(asked.reads),
	})
	d := Decision{Allowed: verdict == cedar.Allow}
	if asked.unreadable != 0 {
		d.addError(fmt.Sprintf("no readable %s in this request: the forbids that read it apply, "+
			"the permits that read it do not match", strings.Join(asked.unreadable.names(), ", ")))
	}
	p.explainErrors(&d, details.Errors)
	if d.Allowed == (verdict == cedar.Allow) {
		d.Policies = slices.Grow(d.Policies, len(details.Reasons))
		for _, reason := range details.Reasons {
			d.Policies = append(d.Policies, string(reason.PolicyID))
		}
	}
	return d
}

// explainErrors turns a forbid that failed into a denial by that forbid (Z3). A permit that failed
// does not match.
func (p *Policies) explainErrors(d *Decision, failures []cedar.DiagnosticError) {
	for _, f := range failures {
		id := string(f.PolicyID)
		meaning := "the permit does not match"
		if p.forbids[id] {
			meaning = "the forbid applies"
			d.Allowed = false
			d.Policies = append(d.Policies, id)
		}
		d.addError(fmt.Sprintf("policy %q cannot be evaluated, %s: %s", id, meaning, f.Message))
	}
}

func (d *Decision) addError(text string) {
	if len(d.Errors) < maxErrors {
		d.Errors = append(d.Errors, boundedText(text, maxErrorText-len("…")))
	}
}

// selection is the statements to evaluate for one request.
type selection struct {
	chosen []chosen
	reads  reads // what they read, together
	// what policies about this key read and the request does not carry in readable form
	unreadable reads
}

type chosen struct {
	id        cedar.PolicyID
	statement *cedar.Policy
}

const usuallyChosen = 16 // initial capacity: policies whose head admits one request

// All implements cedar.PolicyIterator.
func (s *selection) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, c := range s.chosen {
			if !yield(c.id, c.statement) {
				return
			}
		}
	}
}

// choose selects the policies whose head admits the request. A policy that reads something
// unreadable in this request is not evaluated. Its fallback is, which a forbid has and a permit
// does not.
func (p *Policies) choose(world *entities, unreadable reads) *selection {
	s := &selection{chosen: make([]chosen, 0, usuallyChosen)}
	for _, one := range p.byAction[actionIndex(world.request.Action)] {
		missing := one.reads & unreadable
		if !one.resource.admits(world.key, world.keyStore) {
			continue
		}
		if missing == 0 {
			if one.principal.admits(world.principal.uid, world.ancestors...) {
				s.chosen = append(s.chosen, chosen{one.id, one.statement})
				s.reads |= one.reads
			}
			continue
		}
		s.unreadable |= missing
		if one.forbids {
			s.chosen = append(s.chosen, chosen{one.id, one.fallback})
		}
	}
	return s
}
