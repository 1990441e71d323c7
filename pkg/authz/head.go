package authz

// The head of a policy, parsed once and compared here. Asking cedar-go for each policy of a large
// set costs several times as much (BenchmarkCedarAlone). Tests compare these decisions with those
// of cedar-go on the whole policies.

import (
	"slices"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// head is what a policy requires of its principal or its resource.
type head struct {
	kind   types.EntityType // `is`; "" any
	entity types.EntityUID  // `==` or `in`; zero: any
	in     bool             // entity may be an ancestor
}

func headOf(scope xast.IsScopeNode) head {
	switch s := scope.(type) {
	case xast.ScopeTypeEq:
		return head{entity: s.Entity}
	case xast.ScopeTypeIn:
		return head{entity: s.Entity, in: true}
	case xast.ScopeTypeIs:
		return head{kind: s.Type}
	case xast.ScopeTypeIsIn:
		return head{kind: s.Type, entity: s.Entity, in: true}
	default:
		return head{}
	}
}

// admits reports whether the head admits an entity with these ancestors, which must be all of them.
func (h head) admits(uid types.EntityUID, ancestors ...types.EntityUID) bool {
	if h.kind != "" && h.kind != uid.Type {
		return false
	}
	return h.entity == types.EntityUID{} || h.entity == uid ||
		(h.in && slices.Contains(ancestors, h.entity))
}

// admits reports whether the head of a policy admits the action.
func admits(scope xast.IsActionScopeNode, action types.EntityUID) bool {
	isOrContains := func(uid types.EntityUID) bool {
		return uid == action || actionParents.Contains(uid)
	}
	switch s := scope.(type) {
	case xast.ScopeTypeEq:
		return s.Entity == action
	case xast.ScopeTypeIn:
		return isOrContains(s.Entity)
	case xast.ScopeTypeInSet:
		return slices.ContainsFunc(s.Entities, isOrContains)
	default:
		return true
	}
}
