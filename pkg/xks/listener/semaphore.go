package listener

// The semaphore that limits how many connections without an authenticated request are busy at once.
// Go cannot prefer the work of authenticated clients, so the work of all others is limited where it
// begins: before their bytes reach TLS.

import (
	"container/list"
	"sync"
	"time"
)

const (
	// maxSlotTime is how long a connection keeps a slot if it neither asks for more bytes nor
	// authenticates. A client that does not read its answers must not keep the slot from others.
	maxSlotTime = 5 * time.Millisecond

	// maxWaiting is how many connections wait for a slot at once. One more closes the one that has
	// waited longest. That bounds memory under a flood of connections whose clients have left: some
	// 90 KiB for each.
	maxWaiting = 1024

	// maxSlotWait is how long a connection waits for a slot. AWS KMS gives up long before that
	// (U13). Under a flood, it bounds how many connections wait whose clients have left.
	maxSlotWait = 2 * time.Second

	// authenticatedBytes is how much may arrive after an authenticated request without needing a
	// slot, in addition to the longest body. A client that sends more, such as endless HTTP/2
	// frames, needs slots until its next authenticated request.
	authenticatedBytes = 512 << 10
)

// semaphore grants slots, to the newest waiter first: under a flood, the clients that have waited
// longest have already given up.
type semaphore struct {
	mu      sync.Mutex
	free    int       // slots
	waiting list.List // of chan bool for one value: whether the waiter gets a slot; newest in front
}

// acquire waits for a slot for at most maxSlotWait, and reports whether it got one.
func (s *semaphore) acquire() bool {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return true
	}
	if s.waiting.Len() >= maxWaiting {
		s.waiting.Remove(s.waiting.Back()).(chan bool) <- false
	}
	answer := make(chan bool, 1)
	waiter := s.waiting.PushFront(answer)
	s.mu.Unlock()
	timeout := time.NewTimer(maxSlotWait)
	defer timeout.Stop()
	select {
	case granted := <-answer:
		return granted
	case <-timeout.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case granted := <-answer: // at the last moment
		return granted
	default:
		s.waiting.Remove(waiter)
		return false
	}
}

// release gives a slot to the newest waiter, or makes it free.
func (s *semaphore) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	newest := s.waiting.Front()
	if newest == nil {
		s.free++
		return
	}
	s.waiting.Remove(newest).(chan bool) <- true
}
