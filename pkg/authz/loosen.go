package authz

// What a set of policies may permit that another one denies.

import (
	"crypto/sha256"
	"fmt"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// meaning is the SHA-256 of a statement without its annotations, place and spelling. Two statements
// with the same meaning decide alike; two with different meanings may too.
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

// Loosens returns what p may permit that old denies, one sentence for each statement: a forbid that
// was removed or changed, a permit that was added or changed. It is empty if p denies everything
// that old denies. For a changed statement, "may" is all that can be said without trying every
// request. Comments, spelling, order, ids and files do not matter. Nil policies deny nothing: a key
// store without policies does not call Decide.
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
			found = append(found, "the forbid "+p.describe(id)+" has changed: it may forbid less")
			continue
		}
		found = append(found, "the forbid "+old.describe(id)+" is gone")
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
		found = append(found, "the permit "+p.describe(id)+says)
	}
	return found
}

// describe names a statement for people: its id and its place, which are the same without an @id.
func (p *Policies) describe(id string) string {
	place := p.places[id]
	if id == place {
		return "at " + place
	}
	return fmt.Sprintf("%q (%s)", id, place)
}

// statements is a set of policies by meaning and by id.
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
