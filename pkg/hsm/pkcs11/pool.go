package pkcs11

// The sessions of one token. A pool is a channel of slots; a slot holds a session,
// or nil where one is still to be opened.

import (
	"context"
	"errors"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

// parkTime is how long the pool does with fewer sessions after the token said
// that it has no more.
const parkTime = 30 * time.Second

// pool hands out sessions. What is taken comes back by put or drop, in a slot of
// the same pool; a call that hangs in the module keeps its session for good.
type pool struct {
	open    func() (*session, error)
	size    int
	slots   chan *session
	closing chan struct{}
	once    sync.Once

	mu     sync.Mutex
	parked int // slots set aside because the token has no session for them
	live   int // sessions that are open
}

func newPool(size int, open func() (*session, error)) *pool {
	p := &pool{open: open, size: size, slots: make(chan *session, size), closing: make(chan struct{})}
	for range size {
		p.slots <- nil
	}
	return p
}

// get takes a session, waiting for one at most as long as ctx. Errors: ErrTimeout,
// ErrBusy if the token gives no session at all, ErrUnavailable.
func (p *pool) get(ctx context.Context) (*session, error) {
	for {
		select {
		case <-p.closing:
			return nil, closedError()
		default:
		}
		select {
		case s := <-p.slots:
			if s != nil {
				return s, nil
			}
			s, err := p.fill()
			if s == nil && err == nil {
				continue // the slot is parked; another will do
			}
			return s, err
		case <-p.closing:
			return nil, closedError()
		case <-ctx.Done():
			return nil, timeout("wait for a session", ctx)
		}
	}
}

// idle takes a session that is open and that nobody uses or waits for; nil if there is none.
func (p *pool) idle() *session {
	for range len(p.slots) {
		select {
		case <-p.closing:
			return nil
		case s := <-p.slots:
			if s != nil {
				return s
			}
			p.slots <- nil
		default:
			return nil
		}
	}
	return nil
}

// fill opens a session for an empty slot. On failure the slot goes back empty, or
// is parked: then both results are nil.
func (p *pool) fill() (*session, error) {
	s, err := p.open()
	if err == nil {
		p.opened(1)
		return s, nil
	}
	if errors.Is(err, hsm.ErrBusy) && p.park() {
		return nil, nil
	}
	p.slots <- nil
	return nil, err
}

func (p *pool) opened(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live += n
}

// shed closes a session that nobody uses and parks its slot, so that the token has one for
// somebody else. It reports whether it did: the last session is never given away.
func (p *pool) shed() bool {
	for range p.size {
		select {
		case s := <-p.slots:
			if s != nil && p.spare() {
				s.close()
				p.opened(-1)
				return true
			}
			p.slots <- s
		default:
			return false
		}
	}
	return false
}

// spare parks the slot of a session that the pool can do without.
func (p *pool) spare() bool {
	p.mu.Lock()
	enough := p.live > 1
	p.mu.Unlock()
	return enough && p.park()
}

// park sets a slot aside for a while, unless it is the last one or the pool waits for all of them.
func (p *pool) park() bool {
	select {
	case <-p.closing:
		return false
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.parked+1 >= p.size {
		return false
	}
	p.parked++
	time.AfterFunc(parkTime, func() {
		p.mu.Lock()
		p.parked--
		p.mu.Unlock()
		p.slots <- nil // never blocks: there is room for all slots
	})
	return true
}

// put gives a session back that can be used again.
func (p *pool) put(s *session) { p.slots <- s }

// drop closes a session and leaves its slot to a new one.
func (p *pool) drop(s *session) {
	s.close()
	p.opened(-1)
	p.slots <- nil
}

// renew closes a session and gives a new one for it, or any other of the pool if the token has no
// more. On an error the slot is back in the pool and the caller has no session.
func (p *pool) renew(ctx context.Context, s *session) (*session, error) {
	s.close()
	p.opened(-1)
	fresh, err := p.fill()
	if fresh == nil && err == nil {
		return p.get(ctx)
	}
	return fresh, err
}

// close ends the pool: get fails from now on. It waits for all sessions to come
// back, at most as long as ctx, and closes them. It reports whether all did.
func (p *pool) close(ctx context.Context) bool {
	p.once.Do(func() { close(p.closing) })
	for back := 0; ; back++ {
		p.mu.Lock()
		all := back+p.parked >= p.size
		p.mu.Unlock()
		if all {
			return true
		}
		s, ok := p.reclaim(ctx)
		if !ok {
			return false
		}
		if s != nil {
			s.close()
		}
	}
}

// reclaim takes a slot that is there also when ctx has ended.
func (p *pool) reclaim(ctx context.Context) (*session, bool) {
	select {
	case s := <-p.slots:
		return s, true
	default:
	}
	select {
	case s := <-p.slots:
		return s, true
	case <-ctx.Done():
		return nil, false
	}
}

func closedError() error {
	return &hsm.Error{Kind: hsm.ErrUnavailable, Detail: "the token is closed"}
}
