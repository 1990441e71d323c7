package worker

// The parent's side of one process's socket: calls go out, replies find their
// caller. A link lives as long as its process.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

// outboxLimit bounds what a process that stops reading can make the parent hold, in bytes.
const outboxLimit = 4 << 20

// link is one connection to one process.
type link struct {
	name string
	conn net.Conn
	out  *outbox
	max  int // calls in flight

	opened chan opened   // gets the first frame; capacity 1
	pongs  chan pong     // capacity 1
	gone   chan struct{} // closed when no reply can come any more

	refusals chan *hsm.Error // gets the first reply that says that the PIN was refused; capacity 1

	waiting atomic.Int32 // len(pending), for those who cannot wait for mu

	mu       sync.Mutex
	pending  map[uint64]*call // by frame id; nil for a call whose caller has left
	nextID   uint64
	pingID   uint64
	sessions int    // of the process; 0 until it is ready
	answered uint64 // replies to calls
	hung     int    // calls, at the last ping
	refused  *hsm.Error
	err      error // why gone is closed
}

// opened is what became of opening the token.
type opened struct {
	ready ready
	err   error
}

// call is one request on its way. It is reused.
type call struct {
	frame []byte
	reply frame         // its body is the caller's own
	err   error         // instead of a reply
	done  chan struct{} // gets one value when reply or err is there; capacity 1

	ahead    int    // calls that were in flight when this one came
	answered uint64 // link.answered at that time
}

var callPool = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// release gives a call back. Nobody else may know it any more.
func (c *call) release() {
	clear(c.frame)
	if cap(c.frame) > keepBuffer {
		c.frame = nil
	}
	c.reply, c.err = frame{}, nil
	callPool.Put(c)
}

func newLink(name string, conn net.Conn, maxInFlight int) *link {
	return &link{
		name: name, conn: conn, max: maxInFlight,
		out:    newOutbox(conn, outboxLimit),
		opened: make(chan opened, 1),
		pongs:  make(chan pong, 1),
		gone:   make(chan struct{}),

		refusals: make(chan *hsm.Error, 1),
		pending:  map[uint64]*call{},
	}
}

// errGone is why a call had no reply: the link broke while it waited or before.
var errGone = errors.New("the HSM's process is gone")

// errUnderCall says that the call was on its way when that happened.
var errUnderCall = errors.New("under a call")

// do sends one request and waits for its reply, until ctx ends. Its errors are
// an *hsm.Error of hsm.ErrBusy, hsm.Timeout (see late), or have errGone in their chain.
func (l *link) do(ctx context.Context, k kind, r *request) (frame, error) {
	c := callPool.Get().(*call)
	id, err := l.register(c)
	if err != nil {
		c.release()
		return frame{}, err
	}
	c.frame = beginFrame(c.frame[:0], k, id)
	c.frame = r.appendTo(c.frame)
	c.frame = endFrame(c.frame, 0)
	err = l.out.send(c.frame)
	if err != nil && l.forget(id) {
		c.release()
		return frame{}, sendError(err)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if l.abandon(id) {
			err := l.late(c, ctx.Err())
			c.release()
			if k.isSearch() {
				_ = l.out.send(appendFrame(nil, frame{kind: kindAbandon, id: id}))
			}
			return frame{}, err
		}
		<-c.done // the reply is being handed over just now
	}
	reply, err := c.reply, c.err
	c.release()
	if err != nil {
		return frame{}, fmt.Errorf("%w: %w", errUnderCall, err)
	}
	return reply, nil
}

func sendError(err error) error {
	if errors.Is(err, errOutboxFull) {
		return &hsm.Error{Kind: hsm.ErrBusy, Detail: err.Error()}
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

func (l *link) register(c *call) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return 0, l.err
	}
	if len(l.pending) >= l.max {
		return 0, &hsm.Error{Kind: hsm.ErrBusy, Detail: fmt.Sprintf("%d calls are without an answer", l.max)}
	}
	l.nextID++
	c.ahead, c.answered = len(l.pending), l.answered
	l.pending[l.nextID] = c
	l.waiting.Store(int32(len(l.pending)))
	return l.nextID, nil
}

// forget takes back a call that was never sent. It reports false if the link
// has meanwhile failed and with it the call.
func (l *link) forget(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, mine := l.pending[id]
	delete(l.pending, id)
	l.waiting.Store(int32(len(l.pending)))
	return mine
}

// abandon leaves a call to itself: it stays in flight, and its reply will be
// dropped. It reports false if the reply is there already.
func (l *link) abandon(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, mine := l.pending[id]
	if mine {
		l.pending[id] = nil
	}
	return mine
}

// late is the error of a call whose time is over: an *hsm.Error of hsm.ErrTimeout,
// and of hsm.ErrBusy too if the call was still in the queue while others were answered. Then
// the HSM has more to do than it can, and is not at fault. Sessions take calls in the order in
// which they came: one is surely waiting as long as no more were answered than had no session
// when it came.
func (l *link) late(c *call, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	answered := l.answered - c.answered
	queued := c.ahead - l.sessions - listers // of those before it, at least
	if l.hung > 0 || answered == 0 || queued < 0 || answered > uint64(queued) {
		return &hsm.Error{Kind: hsm.Timeout(cause)}
	}
	return &hsm.Error{
		Kind:   hsm.Timeout(fmt.Errorf("%w: %w", hsm.ErrBusy, cause)),
		Detail: fmt.Sprintf("%d calls were before it and %d of them were answered", c.ahead, answered),
	}
}

func (l *link) inFlight() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

// hello sends the first frame, with the settings in it.
func (l *link) hello(h hello) error {
	return l.sendSecret(kindHello, mustJSON(h))
}

// ping asks for a pong, which arrives on pongs.
func (l *link) ping() error {
	l.mu.Lock()
	l.pingID++
	id := l.pingID
	l.mu.Unlock()
	return l.out.send(appendFrame(nil, frame{kind: kindPing, id: id}))
}

// goodbye asks the process to close its token and to end.
func (l *link) goodbye() error {
	return l.out.send(appendFrame(nil, frame{kind: kindGoodbye}))
}

func (l *link) sendSecret(k kind, body []byte) error {
	b := appendFrame(nil, frame{kind: k, body: body})
	err := l.out.send(b)
	clear(body)
	clear(b)
	return err
}

// read handles all that the process sends, until the socket ends. Then it fails the link.
func (l *link) read() {
	in := newFrameReader(l.conn, replyLimit)
	first, err := in.next()
	if err == nil {
		ready, openErr := parseOpened(l.name, first)
		l.mu.Lock()
		l.sessions = ready.Sessions
		l.mu.Unlock()
		l.opened <- opened{ready, openErr}
		err = openErr
	}
	for err == nil {
		var f frame
		f, err = in.next()
		if err == nil {
			err = l.handle(f)
		}
	}
	l.fail(fmt.Errorf("%w: %w", errGone, err))
}

// handle takes one frame after the first. An error means that the process
// cannot be trusted any further.
func (l *link) handle(f frame) error {
	switch f.kind {
	case kindReady, kindFailed:
		return fmt.Errorf("%w: a second first frame", ErrProtocol)
	case kindPong:
		return l.handlePong(f)
	}
	l.mu.Lock()
	c, known := l.pending[f.id]
	delete(l.pending, f.id)
	l.waiting.Store(int32(len(l.pending)))
	l.answered++
	l.mu.Unlock()
	if !known {
		return fmt.Errorf("%w: a reply to request %d, which is not in flight", ErrProtocol, f.id)
	}
	if c == nil {
		return l.overhear(f)
	}
	c.reply = frame{kind: f.kind, body: append(make([]byte, 0, len(f.body)), f.body...)}
	c.done <- struct{}{}
	return nil
}

// overhear takes the reply to a call whose caller has left. A refused PIN must be
// known anyway: a login can take longer than any caller waits.
func (l *link) overhear(f frame) error {
	if f.kind != kindError {
		return nil
	}
	reply, err := parseFailure(f.body)
	if err == nil {
		l.noteRefusal(reply.err(l.name))
	}
	return err
}

// noteRefusal tells the supervisor of a reply that says that the PIN was refused.
func (l *link) noteRefusal(reply *hsm.Error) {
	if !isRefusal(reply) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused == nil {
		l.refused = reply
		l.refusals <- reply
	}
}

// refusal is what noteRefusal was first told; nil if nothing.
func (l *link) refusal() *hsm.Error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *link) handlePong(f frame) error {
	p, err := parsePong(f.body)
	if err != nil {
		return err
	}
	l.mu.Lock()
	current := f.id == l.pingID
	l.hung = p.Hung
	l.mu.Unlock()
	if !current {
		return nil
	}
	select {
	case l.pongs <- p:
	default: // the last one was not fetched yet
	}
	return nil
}

// fail ends the link: all calls in flight and all later ones fail with err,
// which has errGone in its chain. Only the first call counts.
func (l *link) fail(err error) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	l.err = err
	pending := l.pending
	l.pending = nil
	l.mu.Unlock()
	close(l.gone)
	l.out.fail(err)
	for _, c := range pending {
		if c != nil {
			c.err = err
			c.done <- struct{}{}
		}
	}
	// Not before the calls are answered: closing can wait for a system call.
	_ = l.conn.Close()
}

// failure is why the link ended; errGone while it has not.
func (l *link) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return errGone
	}
	return l.err
}

// timeoutOf is how long ctx still lasts; 0 without a deadline.
func timeoutOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Microsecond)
}
