package fleet

// One order at a time for each HSM. Two at once would undo each other: a restart ends by resuming
// the HSM, even if somebody else has drained it meanwhile.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"xks-proxy/internal/text"
)

// ErrUnderWay is an order that had no turn in time, because of another one.
var ErrUnderWay = errors.New("another order is under way")

// Turns gives each HSM's orders their turn. The zero value is ready.
type Turns struct {
	mu  sync.Mutex
	Now map[string]*turn // by HSM
}

// turn is an order that is being carried out.
type turn struct {
	what  string // "a drain by user x"
	began time.Time
	ended chan struct{} // closed then
}

// Take waits until no other order is under way for the HSM, and returns what ends the turn. If ctx
// ends first, the error is ErrUnderWay and nothing was changed.
func (t *Turns) Take(ctx context.Context, hsm, what string) (func(), error) {
	mine := &turn{what: what, began: time.Now(), ended: make(chan struct{})}
	for {
		other := t.enter(hsm, mine)
		if other == nil {
			return func() { t.leave(hsm) }, nil
		}
		select {
		case <-other.ended:
		case <-ctx.Done():
			return nil, Refuse(
				ErrUnderWay,
				"%s has been under way for %s: nothing was changed for %s; ask again when that "+
					"has ended",
				other.what,
				text.Duration(time.Since(other.began)),
				hsm,
			)
		}
	}
}

// takeAll is take for several HSMs. Orders take one each, so that nobody waits in a circle.
func (t *Turns) takeAll(ctx context.Context, hsms []string, what string) (func(), error) {
	var ends []func()
	end := func() {
		for _, one := range ends {
			one()
		}
	}
	for _, name := range slices.Sorted(slices.Values(hsms)) {
		one, err := t.Take(ctx, name, what)
		if err != nil {
			end()
			return nil, err
		}
		ends = append(ends, one)
	}
	return end, nil
}

// enter is nil if the turn is mine now, else whose it is.
func (t *Turns) enter(hsm string, mine *turn) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other := t.Now[hsm]; other != nil {
		return other
	}
	if t.Now == nil {
		t.Now = map[string]*turn{}
	}
	mine.began = time.Now()
	t.Now[hsm] = mine
	return nil
}

func (t *Turns) leave(hsm string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.Now[hsm].ended)
	delete(t.Now, hsm)
}
