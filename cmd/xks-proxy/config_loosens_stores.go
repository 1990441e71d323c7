package main

// The key stores that a change is compared with: those that are served, and those that were until
// an earlier reload took them out.

import (
	"fmt"
	"slices"
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
	hsms     []string // of its group
	testKey  string
}

// goneStores are the key stores that reloads took out, the oldest first. The value is immutable.
type goneStores []formerStore

// with are the key stores of the running configuration, then those that are gone and have neither
// name nor path of one that runs.
func (g goneStores) with(running *config) []formerStore {
	return append(storesOf(running), g.without(running)...)
}

func (g goneStores) without(running *config) goneStores {
	names, paths := map[string]bool{}, map[string]bool{}
	for _, k := range running.KeyStores {
		names[k.Name], paths[xks.URIPath(k.PathPrefix)] = true, true
	}
	return slices.DeleteFunc(slices.Clone(g), func(s formerStore) bool {
		return names[s.config.Name] || paths[xks.URIPath(s.config.PathPrefix)]
	})
}

// after is what is gone when next has taken the place of old.
func (g goneStores) after(old, next *config) goneStores {
	names := map[string]bool{}
	for _, k := range next.KeyStores {
		names[k.Name] = true
	}
	all := slices.Clone(g)
	for _, s := range storesOf(old) {
		if !names[s.config.Name] {
			alone := *s.config // or it would keep the whole configuration in memory
			s.config = &alone
			all = append(all, s)
		}
	}
	all = all.without(next)
	return all[max(0, len(all)-maxGone):]
}

func storesOf(c *config) []formerStore {
	groups := map[string]hsmGroupConfig{}
	for _, g := range c.HSMGroups {
		groups[g.Name] = g
	}
	all := make([]formerStore, 0, len(c.KeyStores))
	for i := range c.KeyStores {
		k := &c.KeyStores[i]
		s := formerStore{
			config: k, policies: c.policies[k.Name], testKey: groups[k.HSMGroup].TestKey.Label,
		}
		for _, m := range groups[k.HSMGroup].HSMs {
			s.hsms = append(s.hsms, m.HSM)
		}
		all = append(all, s)
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
	hsms := storeHSMs(l.new.config, k)
	mine := reachOf(k.Keys, "")
	for i := range l.former {
		other := &l.former[i]
		shared := slices.ContainsFunc(other.hsms, func(hsm string) bool {
			return slices.Contains(hsms, hsm)
		})
		if !shared {
			continue
		}
		label, err := commonReach(mine, l.reaches[i], &l.budget)
		if err != nil {
			l.add(at, fmt.Sprintf("is new and has %v to be compared with key store %q: "+
				"it may reach its keys", err, other.config.Name))
			return
		}
		if label != "" {
			l.add(at, fmt.Sprintf("is new and reaches the key with the label %q, "+
				"as key store %q does", label, other.config.Name))
			return
		}
	}
}

func storeHSMs(c *config, k *keyStoreConfig) []string {
	var names []string
	for _, g := range c.HSMGroups {
		if g.Name != k.HSMGroup {
			continue
		}
		for _, m := range g.HSMs {
			names = append(names, m.HSM)
		}
	}
	return names
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
