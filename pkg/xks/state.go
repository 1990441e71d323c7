package xks

// One configuration at run time: the key stores and the routes to them. It is built as a whole and
// never changes.

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"xks-proxy/pkg/hsm/group"
)

// state is one configuration at run time. A request loads it once.
type state struct {
	config    Config
	router    *chi.Mux
	keyStores []*keyStore // in the order of the configuration
	byName    map[string]*keyStore
	routes    map[string]*keyStore // by pattern of the router
	groups    map[*group.Group]*sharedLoad
}

// newState builds a state. Counts and quotas continue those of old, if that is not nil.
func (h *Handler) newState(c Config, old *state) (*state, error) {
	s := &state{
		config: c, router: chi.NewRouter(), keyStores: make([]*keyStore, 0, len(c.KeyStores)),
		byName: make(map[string]*keyStore, len(c.KeyStores)),
		routes: make(map[string]*keyStore, operationCount*len(c.KeyStores)),
		groups: map[*group.Group]*sharedLoad{},
	}
	s.router.NotFound(func(w http.ResponseWriter, r *http.Request) {
		h.begin(s, w, r).refuse(w, errNoSuchPath)
	})
	for _, storeConfig := range c.KeyStores {
		store, err := newKeyStore(storeConfig)
		if err != nil {
			return nil, err
		}
		store.shared = len(c.KeyStores) > 1
		group := s.loadOf(store.group, old)
		if old != nil {
			if before := old.byName[store.name]; before != nil {
				store.takeOver(before)
			}
		}
		if store.load == nil {
			store.load = newStoreLoad(&h.all, group, store.group)
		}
		s.keyStores = append(s.keyStores, store)
		s.byName[store.name] = store
		h.route(s, store)
	}
	return s, nil
}

// loadOf returns the counter of requests to an HSM group. Requests under the old state are counted
// in it too.
func (s *state) loadOf(group *group.Group, old *state) *sharedLoad {
	if s.groups[group] == nil {
		s.groups[group] = new(sharedLoad)
		if old != nil && old.groups[group] != nil {
			s.groups[group] = old.groups[group]
		}
	}
	return s.groups[group]
}

// route adds the paths of a key store to the router.
func (h *Handler) route(s *state, store *keyStore) {
	for _, op := range operations {
		pattern := store.uriPath + op.path
		s.routes[pattern] = store
		s.router.Post(pattern, func(w http.ResponseWriter, r *http.Request) {
			if !store.servedAt(r.Host) {
				h.begin(s, w, r).refuse(w, errNoSuchPath)
				return
			}
			keyID := ""
			if op.keyed {
				keyID = chi.URLParam(r, "externalKeyId")
			}
			h.begin(s, w, r).serve(w, target{store: store, op: op, keyID: keyID})
		})
	}
}
