package xks

// Quotas: how many requests a second a key store, and each of its keys, may have. Beyond is
// ThrottlingException.

import (
	"sync"
	"sync/atomic"
	"time"
)

// rateLimit is the setting of a bucket; the zero value is no limit.
type rateLimit struct {
	interval int64 // ns of the long run that one request uses up
	window   int64 // ns that may be used up ahead of time: the burst
}

// newRateLimit is so many requests a second, and burst of them at once; 0 is a second's worth.
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

// take is a token bucket in one number: when the bucket will be full again, in ns since epoch. It
// gives that number after one more request, or false if there is no token left for it.
func (l rateLimit) take(full, now int64) (int64, bool) {
	full = max(full, now) + l.interval
	return full, full-now <= l.window
}

// bucket is what a key store has used up of its rate. It outlives a reload, whatever becomes of the
// limit.
type bucket struct{ full atomic.Int64 }

// allow takes a token. It locks nothing and allocates nothing.
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

// fit is for a limit that has changed: nobody owes more than an empty bucket.
func (b *bucket) clamp(l rateLimit, now int64) {
	for before := b.full.Load(); before > now+l.window; before = b.full.Load() {
		if b.full.CompareAndSwap(before, now+l.window) {
			return
		}
	}
}

// keyBuckets are the buckets of a key store's keys. Only keys that exist have one, and a full
// bucket is as good as none: it is dropped when there are many.
type keyBuckets struct {
	mu    sync.Mutex
	full  map[string]int64 // by CKA_LABEL; see rateLimit.take
	sweep int              // the number of buckets with which the full ones are dropped
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
	if before > now+l.window { // the limit has changed: nobody owes more than an empty bucket
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

// throttle is which limit a request met, for its log line.
type throttle string

// Error makes a throttle the cause of an apiError.
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

// The replies to requests that meet a limit. Two texts for the caller; the log names the limit.
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
