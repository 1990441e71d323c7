package worker

// When a process that ended is started again.

import (
	"errors"
	"time"

	"xks-proxy/pkg/hsm"
)

// retry counts failures in a row.
type retry struct {
	min, max time.Duration
	failures int
}

// after says how long to wait after a process ended with err, having served for
// some time (0 if it never was ready); random is from [0, 1). It reports false
// if only an operator can help: a PIN that was refused is never tried again, for HSMs lock.
func (r *retry) after(err error, served time.Duration, random float64) (time.Duration, bool) {
	if errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked) {
		return 0, false
	}
	if served >= r.max {
		r.failures = 0
	}
	pause := r.max
	// No number of quick attempts mends a missing token or module; yet a directory or a device may come back.
	if !hsm.IsConfig(err) {
		pause = r.min
		for i := 0; i < r.failures && pause < r.max; i++ {
			pause *= 2
		}
		r.failures++
	}
	pause = min(pause, r.max)
	return pause - time.Duration(random*float64(pause)/2), true
}
