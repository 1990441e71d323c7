package admin

// Keys over the admin socket: which there are, and listing them now.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/xks"
)

// refreshedNames is how many labels the answer of a refresh names.
const refreshedNames = 5

// ErrUnknownName is a group, key store or state that does not exist.
var ErrUnknownName = errors.New("unknown name")

// Keys gathers the keys of all groups that fit a query.
func (a *Service) Keys(q api.KeyQuery) (*api.KeyAnswer, error) {
	groups, stores := a.Groups(), a.Running().KeyStores
	err := checkQuery(q, groups, stores)
	if err != nil {
		return nil, err
	}
	answer := &api.KeyAnswer{Keys: []api.KeyEntry{}}
	for _, g := range groups {
		reaching := slices.DeleteFunc(
			slices.Clone(stores),
			func(k config.KeyStore) bool { return k.HSMGroup != g.Name() },
		)
		for _, report := range g.Keys(func(string) bool { return true }) {
			answer.All++
			entry := api.KeyEntry{KeyReport: report, KeyStores: reachedBy(&report, reaching)}
			if fits(q, &entry) {
				answer.Keys = append(answer.Keys, entry)
			}
		}
	}
	return answer, nil
}

// reachedBy lists the key stores that reach a key.
func reachedBy(r *catalogue.KeyReport, stores []config.KeyStore) []api.ReachingStore {
	list := []api.ReachingStore{}
	if r.TestKey {
		return list
	}
	label := r.ExactLabel()
	for _, k := range stores {
		id, ok := xks.KeyStoreConfig{Labels: k.Keys.Labels, Label: k.Keys.Label}.KeyID(label)
		if ok {
			list = append(list, api.ReachingStore{Name: k.Name, KeyID: id})
		}
	}
	return list
}

// checkQuery refuses names that do not exist, and says which do.
func checkQuery(q api.KeyQuery, groups []*group.Group, stores []config.KeyStore) error {
	var groupNames, storeNames, states []string
	for _, g := range groups {
		groupNames = append(groupNames, g.Name())
	}
	for _, k := range stores {
		storeNames = append(storeNames, k.Name)
	}
	for _, s := range catalogue.KeyStates() {
		states = append(states, string(s))
	}
	if len(groups) == 0 {
		return fleet.Refuse(
			ErrStarting,
			"the proxy is still starting and has listed no keys yet: try again in a moment, and see xks-proxy hsm list",
		)
	}
	for _, one := range []struct {
		what, name string
		known      []string
	}{{"HSM group", q.Group, groupNames}, {"key store", q.KeyStore, storeNames}, {"state", q.State, states}} {
		if one.name != "" && !slices.Contains(one.known, one.name) {
			return fleet.Refuse(
				ErrUnknownName,
				"%s %s does not exist; %s",
				one.what,
				schema.QuoteName(one.name),
				text.DidYouMean(one.name, one.known),
			)
		}
	}
	_, err := path.Match(q.Label, "")
	if err != nil {
		return fmt.Errorf("label pattern %q: %w", q.Label, err)
	}
	return nil
}

// Refresh lists the keys of one HSM, or of all, and says what has changed.
func (a *Service) Refresh(ctx context.Context, o Order) (string, error) {
	message, err := a.refreshHSMs(ctx, o)
	return a.ordered("refresh", o, message, err)
}

func (a *Service) refreshHSMs(ctx context.Context, o Order) (string, error) {
	if a.starting() {
		return "", fleet.Refuse(
			ErrStarting,
			"the proxy is still starting and waits for its HSMs: try again in a moment, and see xks-proxy hsm list",
		)
	}
	var asked []refreshing
	for _, g := range a.Groups() {
		for _, m := range g.Status().Members {
			if o.HSM == "" || o.HSM == m.HSM {
				asked = append(asked, refreshing{group: g, hsm: m.HSM})
			}
		}
	}
	if len(asked) == 0 {
		return "", a.unknown(o.HSM)
	}
	var waiting sync.WaitGroup
	for i := range asked {
		waiting.Go(func() { asked[i].run(ctx) })
	}
	waiting.Wait()
	var lines []string
	var failed error
	for _, one := range asked {
		lines = append(lines, one.line())
		failed = errors.Join(failed, one.err)
	}
	text := strings.Join(lines, "\n")
	if failed != nil {
		return "", errors.New(text)
	}
	return text, nil
}

// refreshing is one HSM of one group.
type refreshing struct {
	group  *group.Group
	hsm    string
	result catalogue.ListingDiff
	took   time.Duration
	err    error
}

func (r *refreshing) run(ctx context.Context) {
	start := time.Now()
	r.result, r.err = r.group.Refresh(ctx, r.hsm)
	r.took = time.Since(start)
}

func (r *refreshing) line() string {
	name := fmt.Sprintf("%s (group %s)", r.hsm, r.group.Name())
	switch {
	case errors.Is(r.err, context.DeadlineExceeded), errors.Is(r.err, context.Canceled):
		return fmt.Sprintf(
			"%s: its keys were not listed within the time given; the listing goes on: see xks-proxy hsm list",
			name,
		)
	case r.err != nil:
		return fmt.Sprintf(
			"%s: its keys cannot be listed: %s",
			name,
			api.WithoutName(r.err.Error(), r.hsm),
		)
	}
	said := fmt.Sprintf(
		"%s: %s, listed in %s",
		name,
		text.Plural(r.result.Keys, "key"),
		text.Duration(r.took),
	)
	if r.result.First {
		return said + ", for the first time."
	}
	changes := ""
	for _, one := range []struct {
		what   string
		labels []string
	}{{"new", r.result.Added}, {"changed", r.result.Changed}, {"gone", r.result.Gone}} {
		if len(one.labels) > 0 {
			changes += fmt.Sprintf(
				"; %s: %s",
				one.what,
				text.Some(hsm.ShowLabels(one.labels), refreshedNames),
			)
		}
	}
	return said + cmp.Or(changes, "; nothing has changed") + "."
}

func fits(q api.KeyQuery, e *api.KeyEntry) bool {
	inStore := func(k api.ReachingStore) bool { return k.Name == q.KeyStore }
	matches := true
	if q.Label != "" {
		matches, _ = path.Match(q.Label, e.ExactLabel()) // checkQuery has refused a bad pattern
	}
	return matches && (q.Group == "" || e.Group == q.Group) &&
		(q.State == "" || string(e.State) == q.State) &&
		(q.KeyStore == "" || slices.ContainsFunc(e.KeyStores, inStore))
}
