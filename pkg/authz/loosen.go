package authz

// What a set of policies lets through that another one may have denied.

import (
	"crypto/sha256"
	"fmt"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// meaning is the SHA-256 of a statement without its annotations, place and spelling: two
// statements with one meaning decide alike. Nothing follows from two that differ.
type meaning [sha256.Size]byte

func meaningOf(tree *xast.Policy) (meaning, error) {
	plain := *tree
	plain.Annotations = nil
	text, err := cedar.NewPolicyFromAST((*ast.Policy)(&plain)).MarshalJSON()
	if err != nil {
		return meaning{}, err
	}
	return sha256.Sum256(text), nil
}

// Loosens answers what p may permit that old denies, one sentence for each statement: a forbid
// that is gone or has changed, a permit that is new or has changed. It is empty where p denies
// all that old denies. Where a statement has changed, "may" is all that can be said of it without
// trying every request. Comments, spelling, order, ids and files do not matter. Nil policies deny
// nothing: a key store that has none is not to ask.
func (p *Policies) Loosens(old *Policies) []string {
	switch {
	case old == nil:
		return nil
	case p == nil:
		return []string{
			"there is no policy any more: every request that AWS KMS signs is permitted",
		}
	}
	var found []string
	now, before := p.statements(), old.statements()
	for _, one := range old.all {
		if !one.forbids || now.meanings[one.meaning] {
			continue
		}
		id := string(one.id)
		if other := now.byID[id]; other != nil && other.forbids {
			found = append(found, "the forbid "+p.called(id)+" has changed: it may forbid less")
			continue
		}
		found = append(found, "the forbid "+old.called(id)+" is gone")
	}
	for _, one := range p.all {
		if one.forbids || before.meanings[one.meaning] {
			continue
		}
		id := string(one.id)
		says := " is new"
		if other := before.byID[id]; other != nil && !other.forbids {
			says = " has changed: it may permit more"
		}
		found = append(found, "the permit "+p.called(id)+says)
	}
	return found
}

// called is a statement for people: its id and its place, which are one without an @id.
func (p *Policies) called(id string) string {
	place := p.places[id]
	if id == place {
		return "at " + place
	}
	return fmt.Sprintf("%q (%s)", id, place)
}

// statements is a set by what its statements mean and by what they are called.
type statements struct {
	meanings map[meaning]bool
	byID     map[string]*policy
}

func (p *Policies) statements() statements {
	s := statements{
		meanings: make(map[meaning]bool, len(p.all)),
		byID:     make(map[string]*policy, len(p.all)),
	}
	for _, one := range p.all {
		s.meanings[one.meaning] = true
		s.byID[string(one.id)] = one
	}
	return s
}
