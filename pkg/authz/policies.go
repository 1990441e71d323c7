package authz

// A set of policies, and what is computed about each of them once.

import (
	"crypto/sha256"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Policies is a checked set of policies. It is immutable and safe for concurrent use; see [Load].
type Policies struct {
	all []*policy
	// those whose head admits the action, in the order of the files
	byAction   [len(actions)][]*policy
	forbids    map[string]bool   // by id
	places     map[string]string // by id
	digest     [sha256.Size]byte
	references []reference
}

// policy is one statement.
type policy struct {
	id      cedar.PolicyID
	forbids bool
	reads   reads
	meaning meaning

	constant constancy // of the conditions
	cost     int       // see costOf
	problem  Problem   // where it stands

	// The head.
	principal head
	actions   [len(actions)]bool
	resource  head

	// statement is the policy without its head. fallback is evaluated in its place where it reads
	// what a request does not carry in readable form: for a forbid, the one without conditions; for
	// a permit, nothing.
	statement, fallback *cedar.Policy
}

// Len returns the number of policies.
func (p *Policies) Len() int { return len(p.all) }

// Digest returns the SHA-256 of the documents of the policies, in their order. Sets with the same
// digest are the same.
func (p *Policies) Digest() [sha256.Size]byte { return p.digest }

// IDs returns the ids of the policies, in the order of the files.
func (p *Policies) IDs() []string {
	ids := make([]string, len(p.all))
	for i := range p.all {
		ids[i] = string(p.all[i].id)
	}
	return ids
}

// Place returns where the policy with that id stands, as "file:line", for the log (Z2), or "" if
// there is no such policy.
func (p *Policies) Place(id string) string { return p.places[id] }

func newPolicies(all []*policy, places map[string]string, references []reference) *Policies {
	p := &Policies{all: all, forbids: make(map[string]bool), places: places, references: references}
	for _, one := range all {
		if one.forbids {
			p.forbids[string(one.id)] = true
		}
		for i := range actions {
			if one.actions[i] {
				p.byAction[i] = append(p.byAction[i], one)
			}
		}
	}
	return p
}

func newPolicy(id cedar.PolicyID, tree *xast.Policy, means meaning, at Problem) *policy {
	p := &policy{
		id: id, forbids: tree.Effect == xast.EffectForbid, reads: readsOf(tree), meaning: means,
		constant: constancyOf(tree), cost: costOf(tree), problem: at,
		principal: headOf(tree.Principal), resource: headOf(tree.Resource),
		statement: withoutHead(tree, tree.Conditions),
	}
	for i := range actions {
		p.actions[i] = admits(tree.Action, actionUID(actions[i]))
	}
	if p.forbids {
		p.fallback = withoutHead(tree, nil)
	}
	return p
}

// withoutHead returns the policy for every principal, action and resource: choose has checked its
// head.
func withoutHead(tree *xast.Policy, conditions []xast.ConditionType) *cedar.Policy {
	all := xast.Scope{}.All()
	return cedar.NewPolicyFromAST((*ast.Policy)(&xast.Policy{
		Effect: tree.Effect, Position: tree.Position, Conditions: conditions, Principal: all,
		Action: all, Resource: all,
	}))
}

// readsOf returns what of the principal and the context the policy reads. A policy whose head is
// about Unknown principals expects an unreadable one.
func readsOf(tree *xast.Policy) reads {
	var found reads
	for _, c := range tree.Conditions {
		found |= readsOfNode(c.Body)
	}
	switch s := tree.Principal.(type) {
	case xast.ScopeTypeAll:
		return found
	case xast.ScopeTypeEq:
		if s.Entity.Type == typeUnknown {
			return found &^ readsPrincipal
		}
	case xast.ScopeTypeIs:
		if s.Type == typeUnknown {
			return found &^ readsPrincipal
		}
	}
	return found | readsPrincipal
}

func readsOfNode(body xast.IsNode) reads {
	var found reads
	xast.Inspect(xast.NewNode(body), func(n xast.IsNode) bool {
		of, name, ok := attribute(n)
		if ok && of == "context" {
			found |= contextBit(name)
			return false
		}
		if v, ok := n.(xast.NodeTypeVariable); ok {
			switch v.Name {
			case "principal":
				found |= readsPrincipal | readsAttributes
			case "resource":
				found |= readsKey
			case "context": // as a whole
				found |= readsContext
			}
		}
		return true
	})
	return found
}

// attribute returns the variable and the name of `variable.name` and `variable has name`.
func attribute(n xast.IsNode) (types.String, types.String, bool) {
	var of xast.IsNode
	var name types.String
	switch a := n.(type) {
	case xast.NodeTypeAccess:
		of, name = a.Arg, a.Value
	case xast.NodeTypeHas:
		of, name = a.Arg, a.Value
	default:
		return "", "", false
	}
	v, ok := of.(xast.NodeTypeVariable)
	return v.Name, name, ok
}

func contextBit(name types.String) reads {
	for _, f := range contextFields {
		if f.name == name {
			return f.bit
		}
	}
	return 0
}
