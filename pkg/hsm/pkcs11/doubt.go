package pkcs11

// Doubt: whether the token lately failed an operation that was good. While it did, an ambiguous
// answer proves nothing about a ciphertext, and a fault nothing about a key.

import (
	"sync/atomic"
	"time"
)

// doubtTime is how long a token has to serve good operations without such an answer before its
// answers count again.
const doubtTime = time.Minute

// doubt is what is held against one kind of a token's answers.
type doubt struct {
	since atomic.Pointer[time.Time] // when one of them was last found to be wrong
}

// isClean reports whether none of them was found to be wrong for doubtTime.
func (d *doubt) isClean() bool {
	since := d.since.Load()
	return since == nil || time.Since(*since) >= doubtTime
}

// wrong notes that a good operation was answered like this.
func (d *doubt) wrong() {
	now := time.Now()
	d.since.Store(&now)
}
