package breaker

// Latency of an HSM, estimated from its recent answers. A request adds one number without a lock; a
// background loop computes quantiles.

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	// Buckets are powers of two of a microsecond, each divided into bucketSteps. An estimate is at
	// most a quarter too high.
	bucketSteps = 4
	buckets     = bucketSteps * 26 // up to a minute

	EstimateInterval = 250 * time.Millisecond
	// estimateSamples is the number of samples that an estimate needs; with fewer, the last one
	// stays.
	estimateSamples = 16
	// Half of the samples are dropped when there are this many, or after this time.
	decaySamples = 1024
	decayAfter   = 10 * time.Second
)

// Latency holds the recent answer times of one HSM. Add is safe for concurrent use.
type Latency struct {
	counts    [buckets]atomic.Uint32
	P50, P99  atomic.Int64 // ns; 0: not known
	decayedAt time.Time    // the background's own
}

// Add records the time of one answer.
func (l *Latency) Add(d time.Duration) {
	l.counts[bucketOf(d)].Add(1)
}

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), bucketSteps))
	exponent := bits.Len64(us) - 1
	step := us >> (exponent - 2) & (bucketSteps - 1) // the two bits below the highest
	return min((exponent-2)*bucketSteps+int(step), buckets-1)
}

// bucketEnd returns the upper bound of a bucket.
func bucketEnd(bucket int) time.Duration {
	exponent, step := bucket/bucketSteps+2, bucket%bucketSteps
	return time.Duration(uint64(bucketSteps+step+1)<<(exponent-2)) * time.Microsecond
}

// Estimate updates P50 and P99. The background loop calls it every EstimateInterval.
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

// quantile returns the upper bound of the bucket that holds the nth answer.
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
