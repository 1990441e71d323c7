package hsm

// Backlog: how long a request that came now would wait for a session, so that one that cannot be served in
// time is refused while its caller can still do something else (requirement R3). Requests only touch atomics.

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

// Backlog estimates how long a request that came now would wait for a session of the HSM that it would go to, and how long
// the HSM would then take to answer. wait is 0 while a session is free. Rounded up to whole calls, because a wait that
// was promised too short fails the request that was let in.
func (g *Group) Backlog() (wait, answer time.Duration) {
	var best *member
	var bestRank int
	for _, m := range g.members {
		rank := m.standing.rank()
		if rank == unasked {
			continue
		}
		mine := m.queue.wait(m.waiting())
		better := best == nil || rank < bestRank ||
			rank == bestRank && (m.Priority < best.Priority || m.Priority == best.Priority && mine < wait)
		if better {
			best, bestRank, wait = m, rank, mine
		}
	}
	if best == nil {
		return 0, 0
	}
	return wait, time.Duration(best.queue.service.Load())
}

// waiting is how many calls an HSM has not answered.
func (m *member) waiting() int32 {
	n := m.inFlight.Load()
	if m.queued != nil {
		n = max(n, int32(m.queued.Waiting()))
	}
	return n
}

// load is what pick compares. Calls that no request waits for any more count only when they leave no session free: if they
// did always, an HSM that hangs in one function would get fewer requests than it takes to find that out.
func (m *member) load() int32 {
	if n := m.waiting(); m.queue.wait(n) > 0 {
		return n
	}
	return m.inFlight.Load()
}

// unasked is the rank of an HSM that gets no requests.
const unasked = 4

// rank orders HSMs as pick chooses them: one that has come back gets only a share of the requests at first.
func (s *standing) rank() int {
	switch {
	case s.drained.Load():
		return unasked
	case s.out.Load():
		return 3
	case s.suspect.Load():
		return 2
	case s.returned.Load() != nil:
		return 1
	}
	return 0
}

// countSessions reads how many sessions each HSM has, which is known once it is logged in.
func (g *Group) countSessions() {
	for _, m := range g.members {
		m.queue.sessions.Store(int32(m.Token.Info().Sessions))
	}
}
