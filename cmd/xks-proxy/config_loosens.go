package main

// What protection a change of the configuration takes away. Two configurations are compared key by
// key, as in config_diff.go; for each key the schema says which changes may let in what was refused
// before (config_loosens_rules.go). What takes a restart is not compared: a reload does not change
// it. A start compares nothing.

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"strings"

	"xks-proxy/pkg/authz"
)

// loosening is one change by which the proxy may serve what it refused before.
type loosening struct {
	Setting string `json:"setting"` // key without names: key_stores.policy.files
	Key     string `json:"key"`     // with names: key_stores[payroll].policy.files
	What    string `json:"what"`    // such as: the forbid "x" (a.cedar:3) is gone
}

func (l loosening) String() string { return l.Key + ": " + l.What }

// compared is one of the two configurations: the running one or the next.
type compared struct {
	config *config
	rules  map[string]*clientRule // by address of the port, as it is served
}

// loosener collects what a change loosens.
type loosener struct {
	old, new compared
	former   []formerStore                     // key stores that run, then those that ran before
	tokens   map[string][]string               // by group of the next configuration
	store    *formerStore                      // that of the key store at hand; nil outside
	policies *authz.Policies                   // its next ones
	port     string                            // the address of the port at hand
	budget   int                               // for comparisons of patterns, in positions
	pairs    map[[2][sha256.Size]byte][]string // what policies loosen, by their digests
	reaches  [][]reach                         // of former; nil until somebody asks
	found    []loosening
}

// looseningsOf is what next loosens, in the order of the schema. gone are the key stores that ran
// earlier in the life of the program: one that comes back is compared with what it was, so that a
// file that is written slowly is not a new key store without rules. A new key store that reaches no
// key of another one is not among the loosenings: it is the next tenant.
func looseningsOf(old, next compared, gone goneStores) []loosening {
	l := &loosener{
		old: old, new: next, former: gone.with(old.config), budget: maxPositions,
		pairs: map[[2][sha256.Size]byte][]string{}, port: next.config.Server.Listen,
		tokens: tokensOf(next.config),
	}
	before, now := reflect.ValueOf(old.config).Elem(), reflect.ValueOf(next.config).Elem()
	l.section(schema, before, now, keyPlace{})
	return l.found
}

// keyPlace is a key, with the names of the elements that it is in and without.
type keyPlace struct{ key, setting string }

func (p keyPlace) below(name string) keyPlace {
	return keyPlace{joinPath(p.key, name), joinPath(p.setting, name)}
}

func (p keyPlace) element(name string) keyPlace {
	return keyPlace{p.key + "[" + name + "]", p.setting}
}

func (l *loosener) add(at keyPlace, what ...string) {
	for _, one := range what {
		l.found = append(l.found, loosening{Setting: at.setting, Key: at.key, What: one})
	}
}

func (l *loosener) section(s *setting, old, new reflect.Value, at keyPlace) {
	for _, f := range s.Fields {
		if f.Restart || f.Loosens == loosensNever {
			continue
		}
		c := settingChange{old.Field(f.Index), new.Field(f.Index), old, new}
		l.field(f, c, at.below(f.Name))
	}
}

func (l *loosener) field(s *setting, c settingChange, at keyPlace) {
	name, argument, _ := strings.Cut(s.Loosens, ":")
	switch {
	case name == loosensStores:
		l.stores(s, c.new, at)
	case name == loosensShared:
		l.members(c, at)
	case s.Kind == section && s.List:
		l.elements(s, c, at, name == loosensAdded)
	case s.Kind == section:
		l.section(s, c.old, c.new, at)
	default:
		rule, known := loosensRules[name]
		if !known { // a test finds it; until then nothing is passed over
			rule = loosensRules["any"]
		}
		if rule.beside || !sameValue(c.old, c.new) {
			l.add(at, rule.find(l, s, c, argument)...)
		}
	}
}

// elements compares lists by the identity of their elements.
func (l *loosener) elements(s *setting, c settingChange, at keyPlace, addedLoosens bool) {
	identity := identityOf(s)
	byName := make(map[string]int, c.old.Len())
	for i := range c.old.Len() {
		byName[c.old.Index(i).Field(identity.Index).String()] = i
	}
	port := l.port
	defer func() { l.port = port }()
	for i := range c.new.Len() {
		name := c.new.Index(i).Field(identity.Index).String()
		if at.setting == listenersKey {
			l.port = name
		}
		j, known := byName[name]
		switch {
		case known:
			l.section(s, c.old.Index(j), c.new.Index(i), at.element(name))
		case addedLoosens:
			l.add(at.element(name), "is new")
		}
	}
}

// stores compares each key store with the one that it was, by name or, where that is not served any
// more, by path: renaming a file is not the way around its rules.
func (l *loosener) stores(s *setting, stores reflect.Value, at keyPlace) {
	known := newFormerIndex(l.former, l.new.config)
	for i := range stores.Len() {
		next := &l.new.config.KeyStores[i]
		element := at.element(next.Name)
		l.store = known.of(next)
		if l.store == nil {
			l.newStore(next, element)
			continue
		}
		l.policies = l.new.config.policies[next.Name]
		l.section(s, reflect.ValueOf(l.store.config).Elem(), stores.Index(i), element)
	}
	l.store = nil
}

// loosenedPolicies is what the policies of the key store at hand loosen; a thousand key stores with
// the same files are compared once.
func (l *loosener) loosenedPolicies() []string {
	old, next := l.store.policies, l.policies
	if next == nil {
		return next.Loosens(old)
	}
	pair := [2][sha256.Size]byte{old.Digest(), next.Digest()}
	says, known := l.pairs[pair]
	if !known && pair[0] != pair[1] {
		says = next.Loosens(old)
		l.pairs[pair] = says
	}
	return says
}

// clientRules are the rules about client certificates of the port at hand. The first is nil where
// nobody was asked for one, the second where nobody is asked any more. A port that the next
// configuration does not have keeps its rule until the restart (tlsHolder.use).
func (l *loosener) clientRules() (*clientRule, *clientRule) {
	old := l.old.rules[l.port]
	next, there := l.new.rules[l.port]
	if !there {
		next = old
	}
	return old, next
}

// newAuthorities are the CAs of next that old does not have.
func newAuthorities(old, next *clientRule) []string {
	var names []string
	for _, ca := range next.cas {
		if !slices.ContainsFunc(old.cas, ca.Equal) {
			names = append(names, ca.Subject.String())
		}
	}
	return names
}
