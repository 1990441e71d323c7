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
	spared   bool // a process that had served was replaced at once, and none has served for long since
}

// after says how long to wait after a process ended with err, having served for
// some time (0 if it never was ready); random is from [0, 1). A process that served is replaced at
// once, but not one after the other unless they served for long: two HSMs whose sessions are reset
// together are back as soon as their modules are initialised anew. It reports false if only an operator can help: a PIN that was refused
// is never tried again, for HSMs lock.
func (r *retry) after(err error, served time.Duration, random float64) (time.Duration, bool) {
	switch {
	case isRefusal(err):
		return 0, false
	case served >= r.max:
		r.failures, r.spared = 0, true
		return 0, true
	case served > 0 && !r.spared && r.failures == 0:
		r.spared = true
		return 0, true
	case hsm.IsConfig(err):
		// Quick attempts do not fix a missing token or module; yet a directory or a device may come back.
		return jitter(r.max, random), true
	}
	pause := r.min
	for i := 0; i < r.failures && pause < r.max; i++ {
		pause *= 2
	}
	r.failures++
	return jitter(min(pause, r.max), random), true
}

// jitter takes up to half off, so that the processes of several proxies do not come all at once.
func jitter(pause time.Duration, random float64) time.Duration {
	return pause - time.Duration(random*float64(pause)/2)
}

// isRefusal reports whether err says that the HSM refused the PIN.
func isRefusal(err error) bool {
	return errors.Is(err, hsm.ErrPINIncorrect) || errors.Is(err, hsm.ErrPINLocked)
}
