package loosening

// The key stores that a change is compared with: those that are served, and those that were until
// an earlier reload took them out.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xks-proxy/internal/config"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// maxGone bounds the number of former key stores that are remembered.
const maxGone = 10_000

// formerStore is a key store as it is, or was, served.
type formerStore struct {
	Config   *config.KeyStore
	policies *authz.Policies
	tokens   []string // of its group: the HSMs by name, and what selects their tokens
	testKey  string

	// reached says that another key store has its name or path now, but does not reach all of its
	// keys. Only the keys are remembered.
	reached bool
}

// GoneStores are the key stores that reloads took out, the oldest first. The value is immutable.
type GoneStores []formerStore

// with are the key stores of the running configuration, then those that are gone.
func (g GoneStores) with(running *config.Config) []formerStore {
	return append(storesOf(running), g...)
}

// After returns the key stores that are gone after a reload from old to next. A key store is gone
// if none in next has its name or path. If one has, but does not reach all of its keys, those keys
// are remembered.
func (g GoneStores) After(old, next *config.Config) GoneStores {
	byName, byPath := map[string]*formerStore{}, map[string]*formerStore{}
	stores := storesOf(next)
	for i := range stores {
		s := &stores[i]
		byName[s.Config.Name], byPath[xks.URIPath(s.Config.PathPrefix)] = s, s
	}
	var all GoneStores
	known := map[string]bool{}
	budget := config.MaxPositions
	for _, s := range append(slices.Clone(g), storesOf(old)...) {
		heir := byName[s.Config.Name]
		if heir == nil {
			heir = byPath[xks.URIPath(s.Config.PathPrefix)]
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
		alone := *s.Config // or it would keep the whole configuration in memory
		s.Config = &alone
		all = append(all, s)
	}
	return all[max(0, len(all)-maxGone):]
}

// reaches tells whether s reaches all keys that other does. It is false if that is not known.
func (s *formerStore) reaches(other formerStore, budget *int) bool {
	switch {
	case !shareToken(s.tokens, other.tokens): // the HSMs of a group have the same keys
		return false
	case s.Config.Keys.Label != other.Config.Keys.Label:
		return false
	case slices.Equal(s.Config.Keys.Labels, other.Config.Keys.Labels):
		return true
	}
	label, err := widerLabel(s.Config.Keys, other.Config.Keys, other.testKey, budget)
	return err == nil && label == ""
}

func shareToken(first, second []string) bool {
	return slices.ContainsFunc(
		first, func(token string) bool { return slices.Contains(second, token) },
	)
}

// reach returns a text that is equal for two key stores that reach the same keys.
func (s *formerStore) reach() string {
	return fmt.Sprintf("%q %q %q", s.Config.Keys.Label, s.Config.Keys.Labels, s.tokens)
}

func storesOf(c *config.Config) []formerStore {
	groups := map[string]config.Group{}
	for _, g := range c.HSMGroups {
		groups[g.Name] = g
	}
	tokens := tokensOf(c)
	all := make([]formerStore, 0, len(c.KeyStores))
	for i := range c.KeyStores {
		k := &c.KeyStores[i]
		all = append(all, formerStore{
			Config: k, policies: c.Policies[k.Name], testKey: groups[k.HSMGroup].TestKey.Label,
			tokens: tokens[k.HSMGroup],
		})
	}
	return all
}

// formerIndex finds the former self of a key store.
type formerIndex struct {
	byName, byPath map[string]*formerStore // byPath: those whose name is no longer served
}

func newFormerIndex(former []formerStore, next *config.Config) formerIndex {
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
		if x.byName[s.Config.Name] == nil {
			x.byName[s.Config.Name] = s
		}
		path := xks.URIPath(s.Config.PathPrefix)
		if !stays[s.Config.Name] && x.byPath[path] == nil {
			x.byPath[path] = s
		}
	}
	return x
}

// of returns the former self of a key store, or nil if it is new.
func (x formerIndex) of(k *config.KeyStore) *formerStore {
	if s := x.byName[k.Name]; s != nil {
		return s
	}
	return x.byPath[xks.URIPath(k.PathPrefix)]
}

// newStore reports a new key store that reaches a key of another one, or of a former one.
func (l *loosener) newStore(k *config.KeyStore, at keyPlace) {
	if l.reaches == nil {
		for _, s := range l.former {
			l.reaches = append(l.reaches, config.ReachOf(s.Config.Keys, s.testKey))
		}
	}
	tokens := l.tokens[k.HSMGroup]
	mine := config.ReachOf(k.Keys, "")
	for i := range l.former {
		other := &l.former[i]
		if !shareToken(tokens, other.tokens) {
			continue
		}
		label, err := commonReach(mine, l.reaches[i], &l.budget)
		if err != nil {
			l.add(at, fmt.Sprintf("is new and has %v to be compared with key store %q: "+
				"it may reach its keys", err, other.Config.Name))
			return
		}
		if label != "" {
			does := "does"
			if i >= len(l.old.Config.KeyStores) {
				does = "did"
			}
			l.add(at, fmt.Sprintf("is new and reaches the key with the label %q, "+
				"as key store %q %s", label, other.Config.Name, does))
			return
		}
	}
}

// tokensOf are the HSMs of each group by name, and by what selects their tokens: an HSM that is
// renamed has the same keys.
func tokensOf(c *config.Config) map[string][]string {
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
	group := c.newParent.Interface().(config.Group).Name
	old := tokensOf(l.old.Config)
	for member := range slices.Chunk(l.tokens[group], 2) { // name and selection
		if shareToken(member, old[group]) {
			continue
		}
		for _, other := range l.old.Config.HSMGroups {
			if shareToken(member, old[other.Name]) {
				l.add(at.element(member[0]), fmt.Sprintf("is new here and was in the group %s: "+
					"key stores of this group may reach keys of that one", other.Name))
			}
		}
	}
}

// commonReach returns a label that both reach, or "" if there is none.
func commonReach(first, second []config.Reach, budget *int) (string, error) {
	for _, a := range first {
		for _, b := range second {
			alike := strings.HasPrefix(a.Prefix, b.Prefix) || strings.HasPrefix(b.Prefix, a.Prefix)
			if !alike || config.SurelyApart(a, b) {
				continue
			}
			label, err := config.SharedLabel(a, b, budget)
			if err != nil || label != "" {
				return label, err
			}
		}
	}
	return "", nil
}
