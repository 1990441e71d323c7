package group

// The timer of one attempt: it hedges a slow call, and makes an HSM without an answer suspect.

import (
	"sync"
	"time"
)

// attemptTimer watches one attempt. It hedges a slow one, and makes the HSM suspect if there is no
// answer.
type attemptTimer[T any] struct {
	request *request[T]
	member  *member
	start   time.Time
	delay   time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	slow    bool // the delay has passed
	overdue bool // the attempt timeout has passed
	ended   bool
}

func (w *attemptTimer[T]) begin() {
	w.delay = w.request.g.hedgeDelay(w.member)
	w.mu.Lock()
	w.timer = time.AfterFunc(w.delay, w.fire)
	w.mu.Unlock()
}

func (w *attemptTimer[T]) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	w.timer.Stop()
}

// fire runs when the attempt is slow, when the attempt timeout has passed, and then repeatedly,
// because another HSM may have become available.
func (w *attemptTimer[T]) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	timeout := w.request.g.config.AttemptTimeout
	if !w.slow {
		w.slow = true
		w.request.askAnother(w.member, false)
		if w.delay < timeout {
			w.timer.Reset(timeout - w.delay)
			return
		}
	}
	if !w.overdue {
		w.overdue = true
		w.request.g.unanswered(w.member, time.Since(w.start))
	}
	w.request.askAnother(w.member, true)
	w.timer.Reset(timeout / 2)
}
