package authz

// Names that only the configuration knows: key stores, keys, owners. With one letter wrong, a
// permit never matches, and nothing else would report why.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Names are the names of a configuration that policies may refer to.
type Names struct {
	KeyStores []string // all of them: key stores can share a policy file
	Owners    []string // of the key stores that have one

	// Key returns why an existing key store cannot have a key with this external key id, or "" if
	// it can. Whether an HSM holds the key does not matter: it may be created later.
	Key func(keyStore, id string) string
}

// reference is a name in a policy that only the configuration knows.
type reference struct {
	problem Problem // place and policy, without a text
	kind    referenceKind
	name    string
}

type referenceKind int

const (
	refersToKeyStore referenceKind = iota
	refersToKey                    // "key store/external key id"
	refersToOwner
)

// addReference records a name.
func (c *checker) addReference(kind referenceKind, name string) {
	one := reference{problem: c.at(name, ""), kind: kind, name: name}
	c.loader.references = append(c.loader.references, one)
}

// CheckNames returns an error for each key store and key in the policies that the configuration
// does not have, and a warning for each owner, which is only a word. What the HSMs hold does not
// matter.
func (p *Policies) CheckNames(names Names) ([]Problem, []Problem) {
	var errors, warnings []Problem
	for _, r := range p.references {
		text := r.check(names)
		if text == "" {
			continue
		}
		r.problem.Text = text
		if r.kind == refersToOwner {
			warnings = append(warnings, r.problem)
		} else {
			errors = append(errors, r.problem)
		}
	}
	return errors, warnings
}

func (r reference) check(names Names) string {
	switch r.kind {
	case refersToOwner:
		if !slices.Contains(names.Owners, r.name) {
			return fmt.Sprintf("no key store has the owner %q%s",
				boundedText(r.name, maxName), didYouMean(r.name, names.Owners))
		}
		return ""
	case refersToKeyStore:
		return unknownKeyStore(r.name, names)
	}
	at := strings.LastIndexByte(r.name, '/')
	text := unknownKeyStore(r.name[:at], names)
	if text != "" {
		return text
	}
	reason := names.Key(r.name[:at], r.name[at+1:])
	if reason == "" {
		return ""
	}
	return fmt.Sprintf("the key store %s cannot have a key %q: %s",
		r.name[:at], r.name[at+1:], reason)
}

const namesShown = 10 // key stores named in one error

func unknownKeyStore(name string, names Names) string {
	if slices.Contains(names.KeyStores, name) {
		return ""
	}
	hint := didYouMean(name, names.KeyStores)
	if hint == "" && len(names.KeyStores) <= namesShown {
		hint = "; it has " + strings.Join(names.KeyStores, ", ")
	}
	return fmt.Sprintf("there is no key store %q in the configuration%s",
		boundedText(name, maxName), hint)
}

// Permits reports whether some request for a key of the key store can be permitted, as far as heads
// and constant conditions tell. The key store "" stands for any.
func (p *Policies) Permits(keyStore string) bool {
	for i := range actions {
		permitted := slices.ContainsFunc(p.byAction[i], func(one *policy) bool {
			return !one.forbids && one.constant != alwaysFalse && one.resource.reaches(keyStore)
		})
		forbidden := slices.ContainsFunc(p.byAction[i], func(one *policy) bool {
			return one.forbids && one.constant == alwaysTrue && one.principal == head{} &&
				one.resource.covers(keyStore)
		})
		if permitted && !forbidden {
			return true
		}
	}
	return false
}

// NothingPermitted is the error text for a Permits of false.
const NothingPermitted = "nothing can be permitted, so that every request would be denied: write " +
	"a permit that its keys can match; to take a key store out of service, set blocked: true in " +
	"its configuration or run xks-proxy block, instead of a policy"

// reaches reports whether the head admits some key of the key store.
func (h head) reaches(keyStore string) bool {
	switch {
	case keyStore == "", h.entity == types.EntityUID{}:
		return true
	case h.entity.Type == typeKeyStore:
		return h.in && string(h.entity.ID) == keyStore
	}
	return strings.HasPrefix(string(h.entity.ID), keyStore+"/")
}

// covers reports whether the head admits every key of the key store.
func (h head) covers(keyStore string) bool {
	return h.entity == types.EntityUID{} ||
		h.in && h.entity == types.NewEntityUID(typeKeyStore, types.String(keyStore))
}

// constancy is whether the conditions of a policy have the same value for every request.
type constancy int

const (
	depends constancy = iota
	alwaysTrue
	alwaysFalse
)

// constancyOf recognises literal conditions only, such as `when { false }`.
func constancyOf(tree *xast.Policy) constancy {
	all := alwaysTrue
	for _, condition := range tree.Conditions {
		v, ok := condition.Body.(xast.NodeValue)
		value, isBoolean := v.Value.(types.Boolean)
		switch {
		case !ok || !isBoolean:
			all = depends
		case bool(value) != bool(condition.Condition):
			return alwaysFalse
		}
	}
	return all
}
