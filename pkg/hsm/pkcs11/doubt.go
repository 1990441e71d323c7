package pkcs11

// Doubt: a vague answer is believed only when it comes again. A fault that comes and goes must
// not become a verdict on a good ciphertext; a canary alone would let most of them.

import (
	"sync/atomic"
	"time"
)

const (
	// A bad ciphertext costs one repetition; on a token that has lately given a vague answer to a
	// good one, up to doubtfulRepeats: at 5 % of such answers, three wrong verdicts in ten million.
	usualRepeats    = 1
	doubtfulRepeats = 4
	doubtTime       = 10 * time.Second
)

// doubt is what is held against a token's vague answers.
type doubt struct {
	since atomic.Pointer[time.Time] // when one of them was last found to be wrong
}

// repeats is how often a call with a vague answer is made again.
func (d *doubt) repeats() int {
	since := d.since.Load()
	if since != nil && time.Since(*since) < doubtTime {
		return doubtfulRepeats
	}
	return usualRepeats
}

// repeated takes note that a call succeeded after so many vague answers.
func (d *doubt) repeated(times int) {
	if times > 0 {
		now := time.Now()
		d.since.Store(&now)
	}
}
