package xks

// Counters of requests: arrays of atomics, without a lock or a map lookup. The usage of a key store
// outlives a reload, so that a request that spans the reload is counted in one place.

import (
	"slices"
	"sync/atomic"
	"time"
)

// usage is what one key store has been asked and how much of its quota it has used: some 600 bytes,
// and 40 for each key that has used some of its rate.
type usage struct {
	requests      [operationCount]outcomeCounts
	denials       atomic.Uint64
	shadowDenials atomic.Uint64
	lastRequest   atomic.Int64 // authenticated; Unix seconds; 0: none

	bucket bucket
	keys   keyBuckets
}

// outcomeCounts counts requests by outcome, in the order of outcomes.
type outcomeCounts [outcomeCount]atomic.Uint64

const (
	operationCount = 4
	outcomeCount   = 13
)

// outcomes are all outcomes of a request; "ok" is the first.
var outcomes = [outcomeCount]errorName{
	"ok", validation, invalidState, invalidCiphertext, invalidKeyUsage, authenticationFailed,
	accessDenied, keyNotFound,
	invalidURIPath, throttling, internal, unsupported, dependencyTimeout,
}

func (c *outcomeCounts) add(failed *apiError) {
	outcome := 0
	if failed != nil {
		outcome = slices.Index(outcomes[:], failed.name)
	}
	c[outcome].Add(1)
}

// appendTo appends a count for each possible outcome, and for each other one that occurred.
// Possible ones are listed at 0 too: monitoring sees no increase in a counter that first appears at
// 500.
func (c *outcomeCounts) appendTo(
	list []RequestCount, operation string, possible map[errorName]bool,
) []RequestCount {
	for i := range c {
		if n := c[i].Load(); n > 0 || possible[outcomes[i]] {
			list = append(
				list, RequestCount{Operation: operation, Outcome: string(outcomes[i]), Count: n},
			)
		}
	}
	return list
}

// latencyBounds are the upper bounds of the histogram's buckets. Longer times are counted in the
// total only.
var latencyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond,
}

// histogram counts each time in one bucket; status makes the buckets cumulative.
type histogram struct {
	counts [len(latencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // ns
}

func (h *histogram) add(took time.Duration) {
	bucket := 0
	for bucket < len(latencyBounds) && took > latencyBounds[bucket] {
		bucket++
	}
	h.counts[bucket].Add(1)
	h.sum.Add(int64(took))
}

func (h *histogram) status(operation string) OperationStatus {
	s := OperationStatus{Operation: operation, Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		s.Count += h.counts[i].Load()
		if i < len(latencyBounds) {
			s.Buckets = append(s.Buckets, Bucket{UpTo: latencyBounds[i], Count: s.Count})
		}
	}
	return s
}

// count counts a request that has been answered. Only authenticated requests count in the times:
// other clients must not be able to make the proxy look fast or slow.
func (x *exchange) count(failed *apiError, took time.Duration) {
	if x.store == nil {
		x.handler.refused.add(failed)
		return
	}
	l := x.store.usage
	l.requests[x.op.number].add(failed)
	if x.identity.AccessKeyID == "" {
		return
	}
	x.handler.latencies[x.op.number].add(took)
	if now := x.clock.start.Unix(); l.lastRequest.Load() < now {
		l.lastRequest.Store(now) // of two concurrent requests, either will do
	}
	if d := x.decision; d != nil {
		switch {
		case !d.Allowed:
			l.denials.Add(1)
		case d.Shadow:
			l.shadowDenials.Add(1)
		}
	}
}
