package worker

// Who wants to know when a process has come or gone: each has a channel of its own, so that
// of two groups with one HSM neither takes the word from the other.

import (
	"context"
	"sync"
)

// watchers are the channels of Changed. The zero value has none.
type watchers struct {
	mu   sync.Mutex
	open map[chan struct{}]bool
}

// add makes a channel that lasts until ctx ends. It is not closed then.
func (w *watchers) add(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[chan struct{}]bool{}
	}
	w.open[c] = true
	context.AfterFunc(ctx, func() { w.remove(c) })
	return c
}

func (w *watchers) remove(c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, c)
}

func (w *watchers) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		nudge(c)
	}
}
