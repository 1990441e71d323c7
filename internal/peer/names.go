package peer

// The names of users and groups. A lookup (NSS: LDAP, SSSD, …) may hang for minutes and cannot be
// cancelled. So nothing waits long for one, and decisions depend only on the numbers of the kernel.

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"sync"
	"time"
)

const (
	nameWait       = 250 * time.Millisecond // how long anybody waits for a name
	nameFresh      = time.Minute            // how long an answer is believed
	maxNameLookups = 4                      // at once; each that hangs keeps a thread
	maxNames       = 1000                   // remembered
)

// ErrNoName says that a lookup did not answer in time.
var ErrNoName = errors.New("the name service of this machine does not answer")

// LookUp calls a lookup of the system and waits until ctx ends, then it returns ErrNoName. A lookup
// that hangs goes on in the background.
func LookUp[T any](ctx context.Context, lookup func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := lookup()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%w: %w", ErrNoName, context.Cause(ctx))
	}
}

// LookUpBriefly is LookUp with a limit of 250 ms.
func LookUpBriefly[T any](lookup func() (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), nameWait)
	defer cancel()
	return LookUp(ctx, lookup)
}

// SystemName asks the system for the name of a user. It may hang.
func SystemName(uid int) (string, error) {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// Names looks up names of users in the background and remembers them for a while.
type Names struct {
	lookup func(uid int) (string, error)

	mu      sync.Mutex
	names   map[int]*nameLookup
	pending int
}

// nameLookup is one lookup.
type nameLookup struct {
	began time.Time
	ended chan struct{} // closed when name is there
	name  string        // "" if the user has none
}

// NewNames returns Names without any name yet. lookup may hang: it is SystemName except in tests.
func NewNames(lookup func(uid int) (string, error)) *Names {
	return &Names{lookup: lookup, names: map[int]*nameLookup{}}
}

// begin starts to look a name up, unless it is known or a lookup is under way. It does not wait.
func (n *Names) begin(uid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if one := n.names[uid]; one != nil && (one.pending() || time.Since(one.began) < nameFresh) {
		return
	}
	if n.pending >= maxNameLookups {
		return
	}
	if len(n.names) >= maxNames {
		n.forget()
	}
	one := &nameLookup{began: time.Now(), ended: make(chan struct{})}
	n.names[uid] = one
	n.pending++
	lookup := n.lookup
	go func() {
		name, err := lookup(uid)
		if err == nil {
			one.name = name
		}
		close(one.ended)
		n.mu.Lock()
		defer n.mu.Unlock()
		n.pending--
	}()
}

// forget requires mu.
func (n *Names) forget() {
	for uid, one := range n.names {
		if !one.pending() {
			delete(n.names, uid)
		}
	}
}

func (l *nameLookup) pending() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// name returns the name of a user, or "" if it has none or the lookup takes longer than nameWait.
// While a lookup hangs, only the first caller waits.
func (n *Names) name(uid int) string {
	n.begin(uid)
	n.mu.Lock()
	one := n.names[uid]
	n.mu.Unlock()
	if one == nil {
		return ""
	}
	select {
	case <-one.ended:
		return one.name
	case <-time.After(time.Until(one.began.Add(nameWait))):
	}
	select { // an answer that is there counts, however late
	case <-one.ended:
		return one.name
	default:
		return ""
	}
}
