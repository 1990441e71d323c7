package authz

// A set of policies, ready to be asked, and what is worked out about each of them once.

import (
	"crypto/sha256"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Policies is a checked set of policies. It is immutable and safe for use by many goroutines; see
// [Load].
type Policies struct {
	all      []*policy
	byAction [len(actions)][]*policy // those whose head admits the action, in the order of the files
	forbids  map[string]bool         // by id
	places   map[string]string       // by id
	digest   [sha256.Size]byte
	mentions []mention
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

	// statement is the policy without its head. standIn is evaluated in its place where it reads
	// what a request does not carry in readable form: for a forbid, the one without conditions; for
	// a permit, nothing.
	statement, standIn *cedar.Policy
}

// Len is the number of policies.
func (p *Policies) Len() int { return len(p.all) }

// Digest is the SHA-256 of the documents that the policies are from, in their order: two sets with
// one digest are the same.
func (p *Policies) Digest() [sha256.Size]byte { return p.digest }

// IDs are the ids of the policies, in the order of the files.
func (p *Policies) IDs() []string {
	ids := make([]string, len(p.all))
	for i := range p.all {
		ids[i] = string(p.all[i].id)
	}
	return ids
}

// Place is where the policy with that id stands, as "file:line", for the log (Z2); "" where there
// is none.
func (p *Policies) Place(id string) string { return p.places[id] }

func newPolicies(all []*policy, places map[string]string, mentions []mention) *Policies {
	p := &Policies{all: all, forbids: make(map[string]bool), places: places, mentions: mentions}
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
		principal: headOf(
			tree.Principal,
		), resource: headOf(tree.Resource), statement: withoutHead(tree, tree.Conditions),
	}
	for i := range actions {
		p.actions[i] = admits(tree.Action, actionUID(actions[i]))
	}
	if p.forbids {
		p.standIn = withoutHead(tree, nil)
	}
	return p
}

// withoutHead is the policy for every principal, action and resource, because choose has looked at
// its head.
func withoutHead(tree *xast.Policy, conditions []xast.ConditionType) *cedar.Policy {
	all := xast.Scope{}.All()
	return cedar.NewPolicyFromAST((*ast.Policy)(&xast.Policy{
		Effect: tree.Effect, Position: tree.Position, Conditions: conditions, Principal: all, Action: all, Resource: all,
	}))
}

// readsOf answers what of the principal and the context the policy reads. A policy whose head is
// about Unknown principals expects one that cannot be read.
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

// attribute answers the variable and the name of `variable.name` and `variable has name`.
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
