package main

// The key stores that a change is compared with: those that are served, and those that were until
// an earlier reload took them out.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// maxGone bounds the memory of key stores that are not served any more.
const maxGone = 10_000

// formerStore is a key store as it is, or was, served.
type formerStore struct {
	config   *keyStoreConfig
	policies *authz.Policies
	tokens   []string // of its group: the HSMs by name, and what selects their tokens
	testKey  string

	// reached says that another key store has its name or path now, which does not reach all of its
	// keys: only they are remembered.
	reached bool
}

// goneStores are the key stores that reloads took out, the oldest first. The value is immutable.
type goneStores []formerStore

// with are the key stores of the running configuration, then those that are gone.
func (g goneStores) with(running *config) []formerStore {
	return append(storesOf(running), g...)
}

// after is what is gone when next has taken the place of old. A key store is gone when none has its
// name or path. What it reached is gone when the one that has does not reach all of it.
func (g goneStores) after(old, next *config) goneStores {
	byName, byPath := map[string]*formerStore{}, map[string]*formerStore{}
	stores := storesOf(next)
	for i := range stores {
		s := &stores[i]
		byName[s.config.Name], byPath[xks.URIPath(s.config.PathPrefix)] = s, s
	}
	var all goneStores
	known := map[string]bool{}
	budget := maxPositions
	for _, s := range append(slices.Clone(g), storesOf(old)...) {
		heir := byName[s.config.Name]
		if heir == nil {
			heir = byPath[xks.URIPath(s.config.PathPrefix)]
		}
		if heir != nil && !s.reached {
			if heir.reaches(s, &budget) {
				continue
			}
			s.reached, s.policies = true, nil
		}
		if s.reached {
			reach := s.reach()
			if known[reach] {
				continue
			}
			known[reach] = true
		}
		alone := *s.config // or it would keep the whole configuration in memory
		s.config = &alone
		all = append(all, s)
	}
	return all[max(0, len(all)-maxGone):]
}

// reaches tells whether s reaches all keys that other does. It is false if that is not known.
func (s *formerStore) reaches(other formerStore, budget *int) bool {
	switch {
	case !shareToken(s.tokens, other.tokens): // the HSMs of a group have the same keys
		return false
	case s.config.Keys.Label != other.config.Keys.Label:
		return false
	case slices.Equal(s.config.Keys.Labels, other.config.Keys.Labels):
		return true
	}
	label, err := widerLabel(s.config.Keys, other.config.Keys, other.testKey, budget)
	return err == nil && label == ""
}

func shareToken(first, second []string) bool {
	return slices.ContainsFunc(first, func(token string) bool { return slices.Contains(second, token) })
}

// reach says which keys s reaches: the same text, the same keys.
func (s *formerStore) reach() string {
	return fmt.Sprintf("%q %q %q", s.config.Keys.Label, s.config.Keys.Labels, s.tokens)
}

func storesOf(c *config) []formerStore {
	groups := map[string]hsmGroupConfig{}
	for _, g := range c.HSMGroups {
		groups[g.Name] = g
	}
	tokens := tokensOf(c)
	all := make([]formerStore, 0, len(c.KeyStores))
	for i := range c.KeyStores {
		k := &c.KeyStores[i]
		all = append(all, formerStore{
			config: k, policies: c.policies[k.Name], testKey: groups[k.HSMGroup].TestKey.Label,
			tokens: tokens[k.HSMGroup],
		})
	}
	return all
}

// formerIndex finds what a key store was.
type formerIndex struct {
	byName, byPath map[string]*formerStore // byPath: those whose name is not served any more
}

func newFormerIndex(former []formerStore, next *config) formerIndex {
	stays := map[string]bool{}
	for _, k := range next.KeyStores {
		stays[k.Name] = true
	}
	x := formerIndex{byName: map[string]*formerStore{}, byPath: map[string]*formerStore{}}
	for i := range former {
		s := &former[i]
		if s.reached {
			continue
		}
		if x.byName[s.config.Name] == nil {
			x.byName[s.config.Name] = s
		}
		path := xks.URIPath(s.config.PathPrefix)
		if !stays[s.config.Name] && x.byPath[path] == nil {
			x.byPath[path] = s
		}
	}
	return x
}

// of is nil for a key store that is new.
func (x formerIndex) of(k *keyStoreConfig) *formerStore {
	if s := x.byName[k.Name]; s != nil {
		return s
	}
	return x.byPath[xks.URIPath(k.PathPrefix)]
}

// newStore loosens if it is another way to a key of a key store that is, or was, there.
func (l *loosener) newStore(k *keyStoreConfig, at keyPlace) {
	if l.reaches == nil {
		for _, s := range l.former {
			l.reaches = append(l.reaches, reachOf(s.config.Keys, s.testKey))
		}
	}
	tokens := l.tokens[k.HSMGroup]
	mine := reachOf(k.Keys, "")
	for i := range l.former {
		other := &l.former[i]
		if !shareToken(tokens, other.tokens) {
			continue
		}
		label, err := commonReach(mine, l.reaches[i], &l.budget)
		if err != nil {
			l.add(at, fmt.Sprintf("is new and has %v to be compared with key store %q: "+
				"it may reach its keys", err, other.config.Name))
			return
		}
		if label != "" {
			does := "does"
			if i >= len(l.old.config.KeyStores) {
				does = "did"
			}
			l.add(at, fmt.Sprintf("is new and reaches the key with the label %q, "+
				"as key store %q %s", label, other.config.Name, does))
			return
		}
	}
}

// tokensOf are the HSMs of each group by name, and by what selects their tokens: an HSM that is
// renamed has the same keys.
func tokensOf(c *config) map[string][]string {
	selected := map[string]string{}
	for _, h := range c.HSMs {
		slot := "any"
		if h.Slot != nil {
			slot = strconv.Itoa(*h.Slot)
		}
		selected[h.Name] = fmt.Sprintf("%q %q %q %s", h.Module, h.Token, h.Serial, slot)
	}
	tokens := map[string][]string{}
	for _, g := range c.HSMGroups {
		for _, m := range g.HSMs {
			tokens[g.Name] = append(tokens[g.Name], m.HSM, selected[m.HSM])
		}
	}
	return tokens
}

// members reports HSMs that come to a group from another one, perhaps under new names: the key
// stores of this group may reach the keys of that one's.
func (l *loosener) members(c settingChange, at keyPlace) {
	group := c.newParent.Interface().(hsmGroupConfig).Name
	old := tokensOf(l.old.config)
	for member := range slices.Chunk(l.tokens[group], 2) { // name and selection
		if shareToken(member, old[group]) {
			continue
		}
		for _, other := range l.old.config.HSMGroups {
			if shareToken(member, old[other.Name]) {
				l.add(at.element(member[0]), fmt.Sprintf("is new here and was in the group %s: "+
					"key stores of this group may reach keys of that one", other.Name))
			}
		}
	}
}

// commonReach is a label that both reach; "" if there is none.
func commonReach(first, second []reach, budget *int) (string, error) {
	for _, a := range first {
		for _, b := range second {
			alike := strings.HasPrefix(a.prefix, b.prefix) || strings.HasPrefix(b.prefix, a.prefix)
			if !alike || surelyApart(a, b) {
				continue
			}
			label, err := sharedLabel(a, b, budget)
			if err != nil || label != "" {
				return label, err
			}
		}
	}
	return "", nil
}
