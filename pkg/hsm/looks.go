package hsm

// What is remembered of live looks at the HSMs, and how many there may be (requirement R3).

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// lookLimits are how many looks there may be.
type lookLimits struct {
	unknown *rate.Limiter // for labels that are in no catalogue
	known   *rate.Limiter // for a further version of a key that is: strangers to the HSMs must not use it up
}

// newLookLimits takes a second's worth as the burst.
func newLookLimits(perSecond int) lookLimits {
	return lookLimits{unknown: rate.NewLimiter(rate.Limit(perSecond), perSecond), known: rate.NewLimiter(rate.Limit(perSecond), perSecond)}
}

// allow reports whether there may be one more look, and counts it.
func (l lookLimits) allow(known bool) bool {
	if known {
		return l.known.Allow()
	}
	return l.unknown.Allow()
}

const (
	lookHolds    = 2 * time.Second        // how long the result of a look is believed
	versionHolds = 200 * time.Millisecond // likewise, of a key that there is: another proxy may just have begun to use a new version
	maxRecent    = 4096                   // looks remembered
)

// looks remembers the results of live looks for a moment. It is safe for concurrent use.
type looks struct {
	limits lookLimits

	mu     sync.Mutex
	recent map[string]look // by label; only looks that every HSM answered
}

// look is what the HSMs said, at one moment, of one label.
type look struct {
	key  *Key    // nil: none that answered has it
	away []error // of the HSMs that did not answer
	at   time.Time
}

// recall is the result of a recent look for a label, if there was one.
func (l *looks) recall(label string) (look, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.recent[label]
	holds := lookHolds
	if found.key != nil {
		holds = versionHolds
	}
	return found, ok && time.Since(found.at) < holds
}

// remember keeps a result that every HSM had a part in.
func (l *looks) remember(label string, result look) {
	if len(result.away) > 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) >= maxRecent {
		clear(l.recent)
	}
	l.recent[label] = result
}
