package breaker

// Latency: how long an HSM takes to answer, estimated from its recent answers.
// A request adds one number without a lock; the background makes quantiles of them.

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// Buckets are powers of two of a microsecond, each divided into bucketSteps:
	// an estimate is at most a quarter too high.
	bucketSteps = 4
	buckets     = bucketSteps * 26 // up to a minute

	EstimateInterval = 250 * time.Millisecond
	// estimateSamples are needed for an estimate: with fewer the last one stands.
	estimateSamples = 16
	// Half of what is known is forgotten when there is this much of it, or it is this old.
	decaySamples = 1024
	decayAfter   = 10 * time.Second
)

// Latency is the recent answers of one HSM.
type Latency struct {
	counts    [buckets]atomic.Uint32
	P50, P99  atomic.Int64 // ns; 0: not known
	decayedAt time.Time    // the background's own
}

// Add takes note of one answer.
func (l *Latency) Add(d time.Duration) {
	l.counts[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), bucketSteps))
	exponent := bits.Len64(us) - 1
	step := us >> (exponent - 2) & (bucketSteps - 1) // the two bits below the highest
	return min((exponent-2)*bucketSteps+int(step), buckets-1)
}

// bucketEnd is the time that no answer in the bucket reached.
func bucketEnd(bucket int) time.Duration {
	exponent, step := bucket/bucketSteps+2, bucket%bucketSteps
	return time.Duration(uint64(bucketSteps+step+1)<<(exponent-2)) * time.Microsecond
}

// Estimate is called by the background, every estimateInterval.
func (l *Latency) Estimate(now time.Time) {
	var counts [buckets]uint32
	var total uint32
	for i := range counts {
		counts[i] = l.counts[i].Load()
		total += counts[i]
	}
	if total < estimateSamples {
		return
	}
	l.P50.Store(int64(quantile(&counts, total-total/2)))
	l.P99.Store(int64(quantile(&counts, total-total/100)))
	if total >= decaySamples || now.Sub(l.decayedAt) >= decayAfter {
		l.decayedAt = now
		for i, count := range counts {
			if count > 0 {
				l.counts[i].Add(-((count + 1) / 2))
			}
		}
	}
}

// quantile is the end of the bucket in which the nth answer is.
func quantile(counts *[buckets]uint32, nth uint32) time.Duration {
	var below uint32
	for i, count := range counts {
		below += count
		if below >= nth {
			return bucketEnd(i)
		}
	}
	return bucketEnd(buckets - 1)
}
