package breaker

// Tests of the latency estimate: true to a quarter, and forgetful.

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestBuckets: every time is inside its bucket, and a bucket is at most a quarter of its start
// wide.
func TestBuckets(t *testing.T) {
	last := -1
	for us := int64(4); us < 60e6; us += 1 + us/50 {
		d := time.Duration(us) * time.Microsecond
		bucket := bucketOf(d)
		end := bucketEnd(bucket)
		if d >= end || float64(end) > 1.25*float64(d)+float64(time.Microsecond) {
			t.Fatalf("%v is in bucket %d, which ends at %v", d, bucket, end)
		}
		if bucket < last {
			t.Fatalf("%v is in bucket %d, after %d", d, bucket, last)
		}
		last = bucket
	}
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, time.Microsecond} {
		if bucketOf(d) != 0 {
			t.Errorf("%v is in bucket %d", d, bucketOf(d))
		}
	}
	for _, d := range []time.Duration{time.Hour, math.MaxInt64} {
		if bucketOf(d) != buckets-1 {
			t.Errorf("%v is in bucket %d", d, bucketOf(d))
		}
	}
}

// within reports whether an estimate is not below the exact value and at most a quarter above.
func within(estimate int64, exact time.Duration) bool {
	return time.Duration(estimate) >= exact &&
		float64(estimate) <= 1.25*float64(exact)+float64(time.Microsecond)
}

// TestQuantiles: the estimate against the exact quantile, for answers of many kinds.
func TestQuantiles(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, draw := range map[string]func() time.Duration{
		"constant":   func() time.Duration { return 700 * time.Microsecond },
		"uniform":    func() time.Duration { return time.Duration(random.Float64() * float64(50*time.Millisecond)) },
		"log-normal": func() time.Duration { return time.Duration(math.Exp(random.NormFloat64()) * float64(time.Millisecond)) },
		"two humps": func() time.Duration {
			if random.IntN(20) == 0 {
				return 250 * time.Millisecond
			}
			return 300 * time.Microsecond
		},
		"seconds": func() time.Duration { return time.Second + time.Duration(random.Int64N(int64(time.Second))) },
	} {
		for _, n := range []int{estimateSamples, 17, 99, 100, 101, 1000} {
			var l Latency
			var exact []time.Duration
			for range n {
				d := max(draw(), 4*time.Microsecond)
				l.Add(d)
				exact = append(exact, d)
			}
			slices.Sort(exact)
			l.Estimate(time.Now())
			p50, p99 := exact[n-n/2-1], exact[n-n/100-1]
			if !within(l.P50.Load(), p50) || !within(l.P99.Load(), p99) {
				t.Errorf(
					"%s, %d answers: p50 %v, exactly %v; p99 %v, exactly %v",
					name,
					n,
					time.Duration(l.P50.Load()),
					p50,
					time.Duration(l.P99.Load()),
					p99,
				)
			}
		}
	}
}

// TestFewSamples: too few answers leave the last estimate as it is.
func TestFewSamples(t *testing.T) {
	var l Latency
	now := time.Now()
	for range estimateSamples - 1 {
		l.Add(time.Millisecond)
	}
	l.Estimate(now)
	if l.P50.Load() != 0 || l.P99.Load() != 0 {
		t.Fatalf("an estimate from %d answers", estimateSamples-1)
	}
	l.Add(time.Millisecond)
	l.Estimate(now)
	first := l.P50.Load()
	if !within(first, time.Millisecond) {
		t.Fatalf("got %v", time.Duration(first))
	}
	for i := range 100 { // an hour without requests
		l.Estimate(now.Add(time.Duration(i) * 36 * time.Second))
	}
	if l.P50.Load() != first {
		t.Errorf("became %v without an answer", time.Duration(l.P50.Load()))
	}
}

// TestForgets: an HSM that has become slow, or quick again, is known as such after a few times as
// many answers as are kept, or after half a minute.
func TestForgets(t *testing.T) {
	for _, test := range []struct {
		name    string
		tick    time.Duration
		perTick int // answers between two estimates
		ticks   int
	}{
		{"1000 a second", EstimateInterval, 250, 8},
		{"20 a second", EstimateInterval, 5, 240},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l Latency
			now := time.Now()
			run := func(d time.Duration, ticks int) {
				for range ticks {
					for range test.perTick {
						l.Add(d)
					}
					now = now.Add(test.tick)
					l.Estimate(now)
				}
			}
			run(time.Millisecond, 100)
			run(100*time.Millisecond, test.ticks)
			if !within(l.P50.Load(), 100*time.Millisecond) {
				t.Errorf("slow now, and p50 is %v", time.Duration(l.P50.Load()))
			}
			run(time.Millisecond, 8*test.ticks)
			if !within(l.P99.Load(), time.Millisecond) {
				t.Errorf("quick again, and p99 is %v", time.Duration(l.P99.Load()))
			}
			var total uint32
			for i := range l.counts {
				total += l.counts[i].Load()
			}
			if total > 2*decaySamples {
				t.Errorf("%d answers are kept", total)
			}
		})
	}
}

// TestAddWhileForgetting: answers that come while half of them is forgotten are
// not lost below zero. The race detector looks on.
func TestAddWhileForgetting(t *testing.T) {
	var l Latency
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100_000 {
			l.Add(time.Millisecond)
		}
	}()
	for now := time.Now(); ; now = now.Add(decayAfter) {
		l.Estimate(now)
		select {
		case <-done:
			for i := range l.counts {
				if n := l.counts[i].Load(); n > 100_000 {
					t.Errorf("bucket %d holds %d", i, n)
				}
			}
			return
		default:
		}
	}
}
