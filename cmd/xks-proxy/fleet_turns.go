package main

// One order at a time for each HSM. Two at once would undo each other: a restart ends
// by putting back what it drained, also what somebody else had drained meanwhile.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"xks-proxy/internal/text"
)

// errUnderWay is an order that had no turn in time, because of another one.
var errUnderWay = errors.New("another order is under way")

// turns gives each HSM's orders their turn. The zero value is ready.
type turns struct {
	mu  sync.Mutex
	now map[string]*turn // by HSM
}

// turn is an order that is being carried out.
type turn struct {
	what  string // "a drain by user x"
	began time.Time
	ended chan struct{} // closed then
}

// take waits until no other order is under way for the HSM, and returns what ends
// the turn. A refusal of the kind errUnderWay if ctx ends first; then nothing was changed.
func (t *turns) take(ctx context.Context, hsm, what string) (func(), error) {
	mine := &turn{what: what, began: time.Now(), ended: make(chan struct{})}
	for {
		other := t.enter(hsm, mine)
		if other == nil {
			return func() { t.leave(hsm) }, nil
		}
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, refuse(errUnderWay, "%s has been under way for %s: nothing was changed for %s; ask again when that has ended",
				other.what, text.Duration(time.Since(other.began)), hsm)
		}
	}
}

// takeAll is take for several HSMs. Orders take one each, so that nobody waits in a circle.
func (t *turns) takeAll(ctx context.Context, hsms []string, what string) (func(), error) {
	var ends []func()
	end := func() {
		for _, one := range ends {
			one()
		}
	}
	for _, name := range slices.Sorted(slices.Values(hsms)) {
		one, err := t.take(ctx, name, what)
		if err != nil {
			end()
			return nil, err
		}
		ends = append(ends, one)
	}
	return end, nil
}

// enter is nil if the turn is mine now, else whose it is.
func (t *turns) enter(hsm string, mine *turn) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.now[hsm]; other != nil {
		return other
	}
	if t.now == nil {
		t.now = map[string]*turn{}
	}
	mine.began = time.Now()
	t.now[hsm] = mine
	return nil
}

func (t *turns) leave(hsm string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.now[hsm].ended)
	delete(t.now, hsm)
}
