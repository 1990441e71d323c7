package authz

// Names that only the configuration knows: key stores, keys, owners. One letter wrong makes a
// permit that never matches, and an outage that nothing mentions.

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	xast "github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Names is what a configuration says of the names in policies.
type Names struct {
	KeyStores []string // all of them: key stores can share a policy file
	Owners    []string // of the key stores that have one

	// Key says why a key store that exists cannot have a key with this external key id; "" where it
	// can. Whether an HSM holds the key is another matter: it may be created later.
	Key func(keyStore, id string) string
}

// mention is a name in a policy that only the configuration knows.
type mention struct {
	problem Problem // place and policy, without a text
	kind    mentionKind
	name    string
}

type mentionKind int

const (
	mentionsKeyStore mentionKind = iota
	mentionsKey                  // "key store/external key id"
	mentionsOwner
)

// mention notes a name.
func (c *checker) mention(kind mentionKind, name string) {
	one := mention{problem: c.at(name, ""), kind: kind, name: name}
	c.loader.mentions = append(c.loader.mentions, one)
}

// CheckNames returns an error for each name in the policies that the configuration does not have,
// and warnings for owners, which are only words. Nothing of it depends on what the HSMs hold.
func (p *Policies) CheckNames(names Names) ([]Problem, []Problem) {
	var errors, warnings []Problem
	for _, m := range p.mentions {
		text := m.check(names)
		if text == "" {
			continue
		}
		m.problem.Text = text
		if m.kind == mentionsOwner {
			warnings = append(warnings, m.problem)
		} else {
			errors = append(errors, m.problem)
		}
	}
	return errors, warnings
}

func (m mention) check(names Names) string {
	switch m.kind {
	case mentionsOwner:
		if !slices.Contains(names.Owners, m.name) {
			return fmt.Sprintf("no key store has the owner %q%s",
				boundedText(m.name, maxName), didYouMean(m.name, names.Owners))
		}
		return ""
	case mentionsKeyStore:
		return unknownKeyStore(m.name, names)
	}
	at := strings.LastIndexByte(m.name, '/')
	text := unknownKeyStore(m.name[:at], names)
	if text != "" {
		return text
	}
	reason := names.Key(m.name[:at], m.name[at+1:])
	if reason == "" {
		return ""
	}
	return fmt.Sprintf("the key store %s cannot have a key %q: %s",
		m.name[:at], m.name[at+1:], reason)
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
// and constant conditions tell; "" is any key store.
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

// NothingPermitted is what to say where Permits reports false.
const NothingPermitted = "nothing can be permitted, so that every request would be denied: write a " +
	"permit that its keys can match; to take a key store out of service, set blocked: true in its " +
	"configuration or run xks-proxy block, instead of a policy"

// reaches reports whether the head lets some key of the key store through.
func (h head) reaches(keyStore string) bool {
	switch {
	case keyStore == "", h.entity == types.EntityUID{}:
		return true
	case h.entity.Type == typeKeyStore:
		return h.in && string(h.entity.ID) == keyStore
	}
	return strings.HasPrefix(string(h.entity.ID), keyStore+"/")
}

// covers reports whether the head lets every key of the key store through.
func (h head) covers(keyStore string) bool {
	return h.entity == types.EntityUID{} ||
		h.in && h.entity == types.NewEntityUID(typeKeyStore, types.String(keyStore))
}

// constancy is whether the conditions of a policy say the same of every request.
type constancy int

const (
	depends constancy = iota
	alwaysTrue
	alwaysFalse
)

// constancyOf sees literal conditions only, `when { false }`.
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
