package worker

// The parent's side as an hsm.Token: each call goes to the process that runs
// now, or fails at once if none does.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

// Worker is one HSM behind a process of its own. It implements hsm.Token,
// hsm.Supervised and hsm.Queued.
//
// A call that the process has not answered when ctx ends fails with
// hsm.ErrTimeout at once. The error is hsm.ErrBusy as well if the call was still in
// the queue while the HSM answered others: it had too little time, and the HSM is not at fault. While no process is ready, and when it dies under a
// call, calls fail at once with hsm.ErrUnavailable. With Config.MaxInFlight
// calls unanswered, or the socket full because the process does not read, they fail
// at once with hsm.ErrBusy.
type Worker struct {
	config Config
	link   atomic.Pointer[link] // nil while no process is ready
	opened atomic.Uint64        // see Incarnation

	restart  chan string   // asks for a new process; capacity 1
	renew    chan string   // see Renew; capacity 1
	changed  watchers      // see Changed
	suspects chan struct{} // see Suspect; capacity 1
	closing  chan struct{} // closed by Close
	kill     chan struct{} // closed when Close has lost patience
	first    chan struct{} // closed when the first attempt to start has ended
	done     chan struct{} // closed when the supervisor has ended

	closeOnce, killOnce sync.Once

	// The supervisor's own.
	settings  json.RawMessage // for the next process
	asked     bool            // Restart asked for it
	started   int             // processes so far
	replacing bool            // see replacement
	complaint complaint
	opening   opening

	mu       sync.Mutex
	state    State
	info     hsm.Info
	firstErr error
}

var (
	_ hsm.Token      = (*Worker)(nil)
	_ hsm.Supervised = (*Worker)(nil)
	_ hsm.Queued     = (*Worker)(nil)
)

// Start begins to supervise a process for c and returns at once; see Ready. The
// error says that c is no good.
func Start(c Config) (*Worker, error) {
	err := c.Validate()
	if err != nil {
		return nil, err
	}
	w := &Worker{
		config:   c.withDefaults(),
		settings: c.Settings,
		restart:  make(chan string, 1),
		renew:    make(chan string, 1),
		suspects: make(chan struct{}, 1),
		closing:  make(chan struct{}),
		kill:     make(chan struct{}),
		first:    make(chan struct{}),
		done:     make(chan struct{}),
	}
	w.enter(Starting, nil)
	go w.supervise()
	return w, nil
}

// Ready waits until the first attempt to start has ended. It returns nil if the
// token is open, and otherwise why it is not: Config.Held if that is set, an *hsm.Error of the Kind that the
// process gave (hsm.ErrPINIncorrect, hsm.ErrTokenNotFound, hsm.ErrModule, …) or
// hsm.ErrUnavailable; hsm.ErrTimeout if ctx ends first.
func (w *Worker) Ready(ctx context.Context) error {
	select {
	case <-w.first:
	case <-ctx.Done():
		return &hsm.Error{HSM: w.config.Name, Op: "start", Kind: hsm.Timeout(ctx.Err())}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.firstErr
}

// Restart kills the process and starts a new one without delay, also when none is
// started any more because of a refused PIN. The settings are read anew (see Config.Refresh)
// and their PIN is tried once, also if it is still the one that was refused. The reason goes to the log.
func (w *Worker) Restart(reason string) {
	select {
	case w.restart <- reason:
	default: // one is under way
	}
}

// Waiting implements hsm.Queued.
func (w *Worker) Waiting() int {
	l := w.link.Load()
	if l == nil {
		return 0
	}
	return int(l.waiting.Load())
}

// Changed implements hsm.Supervised. It gets a value when a process became ready, could not
// be started, or has ended.
func (w *Worker) Changed(ctx context.Context) <-chan struct{} { return w.changed.add(ctx) }

// Suspect implements hsm.Supervised. The process is pinged at once, though not more often than
// every 50 ms, and killed if it does not answer within Config.PingTimeout. (One that was stopped
// is killed anyway, without any call to Suspect.)
func (w *Worker) Suspect() { nudge(w.suspects) }

// Renew implements hsm.Supervised. Unlike Restart it is not an operator's order: settings and PIN stay
// as they are, and after a PIN that was refused it does nothing.
func (w *Worker) Renew(reason string) {
	select {
	case w.renew <- reason:
	default: // one is under way
	}
}

// Incarnation implements hsm.Supervised.
func (w *Worker) Incarnation() uint64 { return w.opened.Load() }

// Encrypt implements hsm.Token.
func (w *Worker) Encrypt(ctx context.Context, key hsm.KeyRef, aad, plaintext []byte) (hsm.Sealed, error) {
	l := w.link.Load()
	body, err := w.call(ctx, l, kindEncrypt, request{key: key, aad: aad, data: plaintext})
	if err != nil {
		return hsm.Sealed{}, err
	}
	sealed, err := parseSealed(body)
	if err != nil {
		return hsm.Sealed{}, w.distrust(l, kindEncrypt, err)
	}
	return sealed, nil
}

// Decrypt implements hsm.Token.
func (w *Worker) Decrypt(ctx context.Context, key hsm.KeyRef, aad []byte, sealed hsm.Sealed) ([]byte, error) {
	return w.call(ctx, w.link.Load(), kindDecrypt,
		request{key: key, aad: aad, iv: sealed.IV, tag: sealed.Tag, data: sealed.Ciphertext})
}

// Keys implements hsm.Token. The list crosses as JSON of at most 16 MiB, some
// 50,000 keys (hsm.MarshalObjects).
func (w *Worker) Keys(ctx context.Context) ([]hsm.Object, error) {
	return w.objects(ctx, kindKeys, request{})
}

// Find implements hsm.Token.
func (w *Worker) Find(ctx context.Context, label string) ([]hsm.Object, error) {
	return w.objects(ctx, kindFind, request{key: hsm.KeyRef{Label: label}})
}

func (w *Worker) objects(ctx context.Context, k kind, r request) ([]hsm.Object, error) {
	l := w.link.Load()
	body, err := w.call(ctx, l, k, r)
	if err != nil {
		return nil, err
	}
	objects, err := hsm.UnmarshalObjects(body)
	if err != nil {
		return nil, w.distrust(l, k, fmt.Errorf("%w: list of keys: %w", ErrProtocol, err))
	}
	return objects, nil
}

// Info implements hsm.Token.
func (w *Worker) Info() hsm.Info {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.info
}

// call does one request over l, which may be nil, and gives the body of the
// reply. Every error is an *hsm.Error.
func (w *Worker) call(ctx context.Context, l *link, k kind, r request) ([]byte, error) {
	err := ctx.Err()
	if err != nil {
		return nil, w.failed(k, hsm.Timeout(err))
	}
	if l == nil {
		return nil, w.away(k)
	}
	err = r.check()
	if err != nil {
		return nil, w.failed(k, err)
	}
	r.timeout = timeoutOf(ctx)
	reply, err := l.do(ctx, k, &r)
	if err != nil {
		return nil, w.failed(k, err)
	}
	switch reply.kind {
	case k.reply():
		return reply.body, nil
	case kindError:
		f, err := parseFailure(reply.body)
		if err != nil {
			return nil, w.distrust(l, k, err)
		}
		refusal := f.err(w.config.Name)
		l.noteRefusal(refusal)
		return nil, refusal
	}
	return nil, w.distrust(l, k, fmt.Errorf("%w: a reply of kind %#x to %s", ErrProtocol, byte(reply.kind), k))
}

// failed makes an *hsm.Error, of this call alone, of what went wrong on the way.
func (w *Worker) failed(k kind, err error) error {
	e := hsm.Error{Kind: hsm.ErrUnavailable, Detail: err.Error()}
	var own *hsm.Error
	switch {
	case errors.Is(err, errUnderCall):
		e.Kind = hsm.ErrCrashed
	case errors.Is(err, errGone): // all calls in flight share it
	case errors.As(err, &own):
		e = *own
	case errors.Is(err, hsm.ErrTimeout):
		e = hsm.Error{Kind: err}
	}
	e.HSM, e.Op = w.config.Name, k.String()
	return &e
}

// away is the error of a call while no process is ready.
func (w *Worker) away(k kind) error {
	s := w.State()
	detail := fmt.Sprintf("no process is ready (%s)", s.Phase)
	var last *hsm.Error
	switch {
	case s.Phase == Closed || s.LastErr == nil:
	case errors.As(s.LastErr, &last) && last.Kind == hsm.ErrUnavailable && last.Detail != "":
		detail += ": " + last.Detail
	default:
		detail += ": " + s.LastErr.Error()
	}
	return &hsm.Error{HSM: w.config.Name, Op: k.String(), Kind: hsm.ErrUnavailable, Detail: detail}
}

// distrust gives up a process that answered nonsense.
func (w *Worker) distrust(l *link, k kind, err error) error {
	l.fail(fmt.Errorf("%w: %w", errGone, err))
	return w.failed(k, err)
}

// Close says goodbye to the process, which finishes its calls, closes its token and
// exits; when ctx ends before that, the process is killed and the error is
// hsm.ErrTimeout. No goroutine, process or file is left.
func (w *Worker) Close(ctx context.Context) error {
	w.closeOnce.Do(func() { close(w.closing) })
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	w.killOnce.Do(func() { close(w.kill) })
	e := &hsm.Error{HSM: w.config.Name, Op: "close", Kind: hsm.Timeout(ctx.Err()), Detail: "its process was killed"}
	select {
	case <-w.done:
	case <-time.After(2 * burialTime):
		e.Detail = "its process was killed and does not end"
	}
	return e
}
