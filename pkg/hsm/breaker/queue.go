package breaker

// The expected wait for a session of one HSM, estimated from its recent answers (requirement R3).
// Requests only use atomics.

import (
	"sync/atomic"
	"time"
)

// Queue estimates the queue of calls before one HSM.
type Queue struct {
	Sessions atomic.Int32 // calls that it takes at once; 0: not known yet
	Service  atomic.Int64 // ns that one call lately needed once it had a session, a moving mean
}

// serviceWeight is about how many calls the moving mean needs to follow a change.
const serviceWeight = 8

// Record takes the time of a call that started as one of inFlight. The HSM serves calls in order of
// arrival, so with twice as many calls as sessions half of the time was waiting. An abandoned call
// only proves that it needs at least that long. A lost concurrent update does not matter.
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

// Wait returns how long one more call would wait for a session if every session had just started a
// call; 0 if a session is free.
func (q *Queue) Wait(inFlight int32) time.Duration {
	sessions := q.Sessions.Load()
	if sessions == 0 || inFlight < sessions {
		return 0
	}
	rounds := (inFlight-sessions)/sessions + 1
	return time.Duration(int64(rounds) * q.Service.Load())
}
