package catalogue

// Live look-ups on the HSMs: a short-lived cache of results, and rate limits (requirement R3).

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// LookupLimits are the rate limits of live look-ups.
type LookupLimits struct {
	Unknown *rate.Limiter // for labels that are in no catalogue
	Known   *rate.Limiter // for new versions of known keys, apart from unknown ones
}

// NewLookupLimits returns limits of perSecond look-ups a second, with a burst of the same size.
func NewLookupLimits(perSecond int) LookupLimits {
	return LookupLimits{
		Unknown: rate.NewLimiter(rate.Limit(perSecond), perSecond),
		Known:   rate.NewLimiter(rate.Limit(perSecond), perSecond),
	}
}

// Allow takes one look-up from the limit and reports whether it may be made.
func (l LookupLimits) Allow(known bool) bool {
	if known {
		return l.Known.Allow()
	}
	return l.Unknown.Allow()
}

const (
	lookupTTL        = 2 * time.Second        // how long the result of a look is believed
	knownKeyTTL      = 200 * time.Millisecond // another proxy may have started a new version
	maxCachedLookups = 4096                   // looks remembered
)

// LookupCache holds the results of live look-ups for a moment. It is safe for concurrent use.
type LookupCache struct {
	Limits LookupLimits

	mu     sync.Mutex
	Recent map[string]Lookup // by label; only looks that every HSM answered
}

// Lookup is what the HSMs answered about one label.
type Lookup struct {
	Key  *Key    // nil: none that answered has it
	Away []error // of the HSMs that did not answer
	At   time.Time
}

// Get returns the result of a recent look-up, and whether there is one.
func (l *LookupCache) Get(label string) (Lookup, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := l.Recent[label]
	holds := lookupTTL
	if found.Key != nil {
		holds = knownKeyTTL
	}
	return found, ok && time.Since(found.At) < holds
}

// Put stores a result. It ignores one that an HSM did not contribute to.
func (l *LookupCache) Put(label string, result Lookup) {
	if len(result.Away) > 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.Recent) >= maxCachedLookups {
		clear(l.Recent)
	}
	l.Recent[label] = result
}
