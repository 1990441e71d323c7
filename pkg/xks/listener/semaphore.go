package listener

// How much those may use on whose connections nobody has authenticated. Go cannot give the work of
// tenants precedence, so that the work of strangers is kept small where it begins: what they
// send is handed on only when it is their turn, and no more of it than a legal client needs.

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A turn begins when bytes of a stranger are handed on, and ends when more are asked for, when
	// he is known, or after maxSlotTime: somebody who does not read his answers must not keep the
	// others waiting.
	maxSlotTime = 5 * time.Millisecond

	// unauthenticatedRead is how many bytes a stranger gets in at a turn: a hundred frames, or most
	// of a ClientHello.
	unauthenticatedRead = 4 << 10

	// maxSlotWait is how long a stranger waits for his turn. AWS KMS has given up long before
	// (U13); it is as long as this for the sake of slow machines.
	maxSlotWait = 2 * time.Second

	// unauthenticatedBurst is what a stranger may send at once, TLS included, over and above the
	// longest body: a handshake and the largest header need 72 KiB; each body that is refused for
	// its length costs 256 KiB, which net/http reads of it. The gate keeps floods small, and this
	// makes each of them begin anew, behind those who come later.
	unauthenticatedBurst = 2 << 20

	// authenticatedBytes is what a tenant may send from one authenticated request to the next, over
	// and above the longest body: who sends more, such as frames without end, is dealt with as a
	// stranger until he makes a request.
	authenticatedBytes = 512 << 10

	// unauthenticatedRate is bytes a second, for load balancers that ask for /healthz on one
	// connection for weeks, and for pings.
	unauthenticatedRate = 1 << 10
)

// gate lets few strangers work at once, the newest first: when there are more than can be served in
// time, those who came long ago have given up.
type semaphore struct {
	mu      sync.Mutex
	free    int       // turns that nobody has
	waiting list.List // of chan struct{}, closed when its turn comes; the newest in front
}

// enter waits for a turn. False: none came in time.
func (s *semaphore) acquire() bool {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	turn := make(chan struct{})
	place := s.waiting.PushFront(turn)
	s.mu.Unlock()
	patience := time.NewTimer(maxSlotWait)
	defer patience.Stop()
	select {
	case <-turn:
		return true
	case <-patience.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-turn: // at the last moment
		return true
	default:
		s.waiting.Remove(place)
		return false
	}
}

// leave gives a turn to the next.
func (s *semaphore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.waiting.Front()
	if next == nil {
		s.free++
		return
	}
	close(s.waiting.Remove(next).(chan struct{}))
}

// newAllowance is of bytes, for one stranger's connection.
func newAllowance(maxBody int) *rate.Limiter {
	return rate.NewLimiter(unauthenticatedRate, unauthenticatedBurst+maxBody)
}
