package xks

// Quotas: how many requests a second a key store, and each of its keys, may make. A request beyond
// a quota is answered with ThrottlingException.

import (
	"sync"
	"sync/atomic"
	"time"
)

// rateLimit is the setting of a token bucket; the zero value means no limit.
type rateLimit struct {
	interval int64 // ns between two requests, on average
	window   int64 // ns by which requests may be early: the burst
}

// newRateLimit returns a limit of perSecond requests a second with a burst of requests at once. A
// perSecond of 0 means no limit, a burst of 0 means perSecond.
func newRateLimit(perSecond, burst int) rateLimit {
	if perSecond == 0 {
		return rateLimit{}
	}
	if burst == 0 {
		burst = perSecond
	}
	interval := int64(time.Second) / int64(perSecond)
	return rateLimit{interval: interval, window: int64(burst) * interval}
}

// take takes a token. The state of the bucket is one number: the time at which it will be full
// again, in ns since quotaEpoch. take returns that number after one more request, and false if no
// token is left.
func (l rateLimit) take(full, now int64) (int64, bool) {
	full = max(full, now) + l.interval
	return full, full-now <= l.window
}

// bucket is the token bucket of a key store. It outlives a reload, even if the limit changes.
type bucket struct{ full atomic.Int64 }

// allow takes a token if one is left. It neither locks nor allocates.
func (b *bucket) allow(l rateLimit, clock func() int64) bool {
	if l.interval == 0 {
		return true
	}
	now := clock()
	for {
		before := b.full.Load()
		full, ok := l.take(before, now)
		if !ok {
			return false
		}
		if b.full.CompareAndSwap(before, full) {
			return true
		}
	}
}

// clamp adapts the bucket to a changed limit: it is never emptier than empty.
func (b *bucket) clamp(l rateLimit, now int64) {
	for before := b.full.Load(); before > now+l.window; before = b.full.Load() {
		if b.full.CompareAndSwap(before, now+l.window) {
			return
		}
	}
}

// keyBuckets are the token buckets of a key store's keys. Only keys that exist have a bucket. A
// full bucket is the same as none, so full ones are dropped once there are many.
type keyBuckets struct {
	mu    sync.Mutex
	full  map[string]int64 // by CKA_LABEL; see rateLimit.take
	sweep int              // number of buckets at which full ones are dropped
}

const minSweep = 64

func (k *keyBuckets) allow(l rateLimit, label string, clock func() int64) bool {
	if l.interval == 0 {
		return true
	}
	now := clock()
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.full[label]
	if before > now+l.window { // the limit has changed; see clamp
		before = now + l.window
		k.full[label] = before
	}
	full, ok := l.take(before, now)
	if !ok {
		return false
	}
	if len(k.full) >= max(k.sweep, minSweep) {
		for other, at := range k.full {
			if at <= now {
				delete(k.full, other)
			}
		}
		k.sweep = 2 * len(k.full)
	}
	if k.full == nil {
		k.full = map[string]int64{}
	}
	k.full[label] = full
	return true
}

// throttle names the limit that a request exceeded, for its log line.
type throttle string

// Error implements error: a throttle is the cause of an apiError.
func (t throttle) Error() string { return string(t) }

const (
	overMaxBodies     throttle = "bodies in memory"
	overMaxInFlight   throttle = "requests in flight"
	overShare         throttle = "key store's share of the requests in flight"
	overStoreInFlight throttle = "key store requests in flight"
	overStoreRate     throttle = "key store rate"
	overKeyRate       throttle = "key rate"
	overQueueTime     throttle = "time queued"
	overBacklog       throttle = "time queued for an HSM"
	overBacklogShare  throttle = "key store's share of the time queued for an HSM"
	overBudget        throttle = "time left after queueing for an HSM"
	overLookups       throttle = "unknown keys"
	overBusy          throttle = "HSM busy"
)

const (
	shedMessage  = "The request rate is higher than this proxy can serve."
	quotaMessage = "The request rate is higher than the quota of the external key store."
)

// The replies to requests that exceed a limit. The caller sees one of two texts; the log names the
// limit.
var (
	errOverMaxBodies     = failure(throttling, shedMessage, overMaxBodies)
	errOverMaxInFlight   = failure(throttling, shedMessage, overMaxInFlight)
	errOverShare         = failure(throttling, shedMessage, overShare)
	errOverQueueTime     = failure(throttling, shedMessage, overQueueTime)
	errOverBacklog       = failure(throttling, shedMessage, overBacklog)
	errOverBacklogShare  = failure(throttling, shedMessage, overBacklogShare)
	errOverBudget        = failure(throttling, shedMessage, overBudget)
	errOverLookups       = failure(throttling, shedMessage, overLookups)
	errOverStoreInFlight = failure(throttling, quotaMessage, overStoreInFlight)
	errOverStoreRate     = failure(throttling, quotaMessage, overStoreRate)
	errOverKeyRate       = failure(throttling, quotaMessage, overKeyRate)
)
