package main

// Whether the time of a refusal tells that an access key id exists (requirement A4). The attacker
// sits as near as can be, on the same machine.

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A difference is taken for one if it is beyond chance and beyond what a network lets through.
const (
	timingBlocks = 40
	timingSigma  = 6
	timingLeast  = 3 * time.Microsecond
)

// timing asks with a known and an unknown access key id in turn, both signed wrongly.
func timing(ctx context.Context, t *target, n *tally) error {
	who := &t.Tenants[0]
	c := &wire{target: t}
	defer c.close()
	random := rand.New(rand.NewPCG(t.Seed, 1))
	pairs := t.amount(20_000, 1000)
	var known, unknown []time.Duration
	for range pairs {
		if ctx.Err() != nil {
			break
		}
		knownFirst := random.IntN(2) == 0
		for _, isKnown := range []bool{knownFirst, !knownFirst} {
			s := newSketch(t, who, "/health", healthBody())
			s.secret = "no secret of anybody's"
			if !isKnown {
				s.id = strings.Repeat("A", len(s.id))
			}
			text := s.bytes()
			err := c.connect()
			if err != nil {
				return fmt.Errorf("timing: %w", err)
			}
			start := time.Now()
			r, err := c.ask(text)
			took := time.Since(start)
			n.noteReply(r, err)
			if errors.Is(err, errClosed) {
				continue // the next request connects again
			}
			if err != nil {
				return fmt.Errorf("timing: %w", err)
			}
			if r.status == 200 {
				n.accept("a wrong secret is accepted")
			}
			if isKnown {
				known = append(known, took)
			} else {
				unknown = append(unknown, took)
			}
		}
	}
	difference, deviation := compare(known, unknown)
	n.remark(
		"an unknown access key id takes %.2f µs longer than a known one, ± %.2f µs (median of %d)",
		micro(difference), micro(deviation), min(len(known), len(unknown)),
	)
	if difference.Abs() > timingLeast &&
		math.Abs(float64(difference)) > timingSigma*float64(deviation) {
		n.accept("the time of a refusal tells whether an access key id exists")
	}
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// compare gives how much longer b takes than a, by medians of blocks, and the standard error.
func compare(a, b []time.Duration) (time.Duration, time.Duration) {
	length := min(len(a), len(b)) / timingBlocks
	if length == 0 {
		return 0, math.MaxInt64
	}
	var sum, squares float64
	for i := range timingBlocks {
		d := float64(median(b[i*length:(i+1)*length]) - median(a[i*length:(i+1)*length]))
		sum += d
		squares += d * d
	}
	mean := sum / timingBlocks
	variance := (squares - sum*mean) / (timingBlocks - 1)
	return time.Duration(mean), time.Duration(math.Sqrt(max(0, variance) / timingBlocks))
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
