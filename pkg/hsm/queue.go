package hsm

// How long a request that came now would wait for a session of one HSM, estimated from its recent
// answers (requirement R3). Requests only touch atomics.

import (
	"sync/atomic"
	"time"
)

// queue is what is known of the line before one HSM.
type queue struct {
	sessions atomic.Int32 // calls that it takes at once; 0: not known yet
	service  atomic.Int64 // ns that one call lately needed once it had a session, a moving mean
}

// serviceWeight is how many calls it takes, about, until the mean has followed a change.
const serviceWeight = 8

// note takes the time of a call which began as one of inFlight. Calls are taken up in the order in which they come, so
// that with twice as many as sessions half of the time was waiting. A call that was given up tells only that it
// needs at least so long. A note that another overwrites is no loss.
func (q *queue) note(took time.Duration, inFlight int32, givenUp bool) {
	sessions := q.sessions.Load()
	if sessions == 0 {
		return
	}
	sample := int64(took)
	if inFlight > sessions {
		sample = sample * int64(sessions) / int64(inFlight)
	}
	mean := q.service.Load()
	switch {
	case givenUp && sample <= mean:
	case mean == 0:
		q.service.Store(sample)
	default:
		q.service.Store(mean + (sample-mean)/serviceWeight)
	}
}

// wait is how long one more call would wait for a session, if every session had just begun a call; 0 if one is free.
func (q *queue) wait(inFlight int32) time.Duration {
	sessions := q.sessions.Load()
	if sessions == 0 || inFlight < sessions {
		return 0
	}
	rounds := (inFlight-sessions)/sessions + 1
	return time.Duration(int64(rounds) * q.service.Load())
}
