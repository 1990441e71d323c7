package catalogue

// What is remembered of live looks at the HSMs, and how many there may be (requirement R3).

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// LookLimits are how many looks there may be.
type LookupLimits struct {
	Unknown *rate.Limiter // for labels that are in no catalogue
	Known   *rate.Limiter // for a further version of a key that is: strangers to the HSMs must not use it up
}

// NewLookLimits takes a second's worth as the burst.
func NewLookupLimits(perSecond int) LookupLimits {
	return LookupLimits{
		Unknown: rate.NewLimiter(rate.Limit(perSecond), perSecond),
		Known:   rate.NewLimiter(rate.Limit(perSecond), perSecond),
	}
}

// Allow reports whether there may be one more look, and counts it.
func (l LookupLimits) Allow(known bool) bool {
	if known {
		return l.Known.Allow()
	}
	return l.Unknown.Allow()
}

const (
	lookupTTL        = 2 * time.Second        // how long the result of a look is believed
	knownKeyTTL      = 200 * time.Millisecond // likewise, of a key that there is: another proxy may just have begun to use a new version
	maxCachedLookups = 4096                   // looks remembered
)

// Looks remembers the results of live looks for a moment. It is safe for concurrent use.
type LookupCache struct {
	Limits LookupLimits

	mu     sync.Mutex
	Recent map[string]Lookup // by label; only looks that every HSM answered
}

// Look is what the HSMs said, at one moment, of one label.
type Lookup struct {
	Key  *Key    // nil: none that answered has it
	Away []error // of the HSMs that did not answer
	At   time.Time
}

// Recall is the result of a recent look for a label, if there was one.
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

// Remember keeps a result that every HSM had a part in.
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
