package worker

// How long a process may take to open its token. Some modules take 20 s; one that usually takes a
// second and hangs now must not cost a minute.

import "time"

const (
	leastOpening  = 10 * time.Second // the limit is never below, whatever was measured
	openingFactor = 4                // times the longest opening so far
)

// opening learns the limit. The zero value knows nothing.
type opening struct {
	longest time.Duration // that succeeded
	missed  int           // limits missed since
}

// limit is for the next process, at most the configured one.
func (o *opening) limit(configured time.Duration) time.Duration {
	if o.longest == 0 {
		return configured
	}
	limit := max(leastOpening, openingFactor*o.longest)
	for i := 0; i < o.missed && limit < configured; i++ {
		limit *= 2
	}
	return min(limit, configured)
}

// took takes note of an opening that succeeded.
func (o *opening) took(d time.Duration) {
	o.longest = max(o.longest, d)
	o.missed = 0
}
