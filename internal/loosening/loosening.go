package loosening

// Two configurations are compared key by key, as in config.Diff. The schema says for each key which
// changes loosen (config.LooseningRules). Keys that need a restart are not compared, because a
// reload does not change them. A start compares nothing.

import (
	"crypto/sha256"
	"reflect"
	"slices"
	"strings"

	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/pkg/authz"
)

// Loosening is one change by which the proxy may serve what it refused before.
type Loosening struct {
	Setting string `json:"setting"` // key without names: key_stores.policy.files
	Key     string `json:"key"`     // with names: key_stores[payroll].policy.files
	What    string `json:"what"`    // such as: the forbid "x" (a.cedar:3) is gone
}

// String is one line: the key and what changed.
func (l Loosening) String() string { return l.Key + ": " + l.What }

// Compared is one of the two configurations: the running one or the next.
type Compared struct {
	Config *config.Config               // checked
	Rules  map[string]*certs.ClientRule // by address of the port, as it is served
}

// loosener collects what a change loosens.
type loosener struct {
	old, new Compared
	former   []formerStore                     // key stores that are served, then those that were
	tokens   map[string][]string               // by group of the next configuration
	store    *formerStore                      // that of the key store at hand; nil outside
	policies *authz.Policies                   // its next ones
	port     string                            // the address of the port at hand
	budget   int                               // for comparisons of patterns, in positions
	pairs    map[[2][sha256.Size]byte][]string // what policies loosen, by their digests
	reaches  [][]config.Reach                  // of former; nil until somebody asks
	found    []Loosening
}

// Of returns what next loosens, in the order of the schema. gone are the key stores that were
// served earlier in this run of the program. One that comes back is compared with its former
// settings, so that a file that is written slowly does not pass as a new key store. A new key store
// loosens only if it reaches a key of another one.
func Of(old, next Compared, gone GoneStores) []Loosening {
	l := &loosener{
		old: old, new: next, former: gone.with(old.Config), budget: config.MaxPositions,
		pairs: map[[2][sha256.Size]byte][]string{}, port: next.Config.Server.Listen,
		tokens: tokensOf(next.Config),
	}
	before, now := reflect.ValueOf(old.Config).Elem(), reflect.ValueOf(next.Config).Elem()
	l.section(config.Schema, before, now, keyPlace{})
	return l.found
}

// keyPlace is a key, with the names of the elements that it is in and without.
type keyPlace struct{ key, setting string }

func (p keyPlace) below(name string) keyPlace {
	return keyPlace{schema.JoinPath(p.key, name), schema.JoinPath(p.setting, name)}
}

func (p keyPlace) element(name string) keyPlace {
	return keyPlace{p.key + "[" + name + "]", p.setting}
}

func (l *loosener) add(at keyPlace, what ...string) {
	for _, one := range what {
		l.found = append(l.found, Loosening{Setting: at.setting, Key: at.key, What: one})
	}
}

func (l *loosener) section(s *schema.Setting, old, new reflect.Value, at keyPlace) {
	for _, f := range s.Fields {
		if f.Restart || f.Loosens == config.LoosensNever {
			continue
		}
		c := settingChange{old.Field(f.Index), new.Field(f.Index), old, new}
		l.field(f, c, at.below(f.Name))
	}
}

func (l *loosener) field(s *schema.Setting, c settingChange, at keyPlace) {
	name, argument, _ := strings.Cut(s.Loosens, ":")
	switch {
	case name == config.LoosensStores:
		l.stores(s, c.new, at)
	case name == config.LoosensShared:
		l.members(c, at)
	case s.Kind == schema.Section && s.List:
		l.elements(s, c, at, name == config.LoosensAdded)
	case s.Kind == schema.Section:
		l.section(s, c.old, c.new, at)
	default:
		rule, known := loosensRules[name]
		if !known { // a mistake that a test finds; any change counts until then
			rule = loosensRules["any"]
		}
		if rule.beside || !config.SameValue(c.old, c.new) {
			l.add(at, rule.find(l, s, c, argument)...)
		}
	}
}

// elements compares lists by the identity of their elements.
func (l *loosener) elements(s *schema.Setting, c settingChange, at keyPlace, addedLoosens bool) {
	identity := config.IdentityOf(s)
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

// stores compares each key store with its former self, found by name or, if that name was not
// served, by path, so that renaming a file does not evade the rules.
func (l *loosener) stores(s *schema.Setting, stores reflect.Value, at keyPlace) {
	known := newFormerIndex(l.former, l.new.Config)
	for i := range stores.Len() {
		next := &l.new.Config.KeyStores[i]
		element := at.element(next.Name)
		l.store = known.of(next)
		if l.store == nil {
			l.newStore(next, element)
			continue
		}
		l.policies = l.new.Config.Policies[next.Name]
		l.section(s, reflect.ValueOf(l.store.Config).Elem(), stores.Index(i), element)
	}
	l.store = nil
}

// loosenedPolicies returns what the policies of the present key store loosen. Key stores with the
// same files are compared once.
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

// clientRules returns the old and the next rule about client certificates of the present port. A
// rule is nil if no client certificate is required. A port that the next configuration does not
// have keeps its rule until the restart (certs.Holder.Use).
func (l *loosener) clientRules() (*certs.ClientRule, *certs.ClientRule) {
	old := l.old.Rules[l.port]
	next, there := l.new.Rules[l.port]
	if !there {
		next = old
	}
	return old, next
}

// newAuthorities are the CAs of next that old does not have.
func newAuthorities(old, next *certs.ClientRule) []string {
	var names []string
	for _, ca := range next.CAs {
		if !slices.ContainsFunc(old.CAs, ca.Equal) {
			names = append(names, ca.Subject.String())
		}
	}
	return names
}
