package breaker

// How long a request that came now would wait for a session of one HSM, estimated from its recent
// answers (requirement R3). Requests only touch atomics.

import (
	"sync/atomic"
	"time"
)

// Queue is what is known of the line before one HSM.
type Queue struct {
	Sessions atomic.Int32 // calls that it takes at once; 0: not known yet
	Service  atomic.Int64 // ns that one call lately needed once it had a session, a moving mean
}

// serviceWeight is how many calls it takes, about, until the mean has followed a change.
const serviceWeight = 8

// Note takes the time of a call which began as one of inFlight. Calls are taken up in the order in
// which they come, so that with twice as many as sessions half of the time was waiting. A call that
// was given up tells only that it
// needs at least so long. A note that another overwrites is no loss.
func (q *Queue) Record(took time.Duration, inFlight int32, givenUp bool) {
	sessions := q.Sessions.Load()
	if sessions == 0 {
		return
	}
	sample := int64(took)
	if inFlight > sessions {
		sample = sample * int64(sessions) / int64(inFlight)
	}
	mean := q.Service.Load()
	switch {
	case givenUp && sample <= mean:
	case mean == 0:
		q.Service.Store(sample)
	default:
		q.Service.Store(mean + (sample-mean)/serviceWeight)
	}
}

// Wait is how long one more call would wait for a session, if every session had just begun a call;
// 0 if one is free.
func (q *Queue) Wait(inFlight int32) time.Duration {
	sessions := q.Sessions.Load()
	if sessions == 0 || inFlight < sessions {
		return 0
	}
	rounds := (inFlight-sessions)/sessions + 1
	return time.Duration(int64(rounds) * q.Service.Load())
}
