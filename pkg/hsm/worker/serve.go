package worker

// The process's side: how it begins and ends. What it does between is in session.go.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"xks-proxy/pkg/hsm"
)

// OpenFunc opens the process's token with the settings that the parent sent, and
// says how many Encrypt and Decrypt calls at once it takes: its sessions. One more call may be Keys,
// and two more Find. It must not keep settings, which are cleared when it returns. The token's
// calls get a context that never ends: a PKCS#11 call cannot be cancelled, and the parent
// keeps the time.
type OpenFunc func(ctx context.Context, settings json.RawMessage) (hsm.Token, int, error)

// exitOrphan is the exit status of a process whose parent is gone.
const exitOrphan = 82

// serverOutboxLimit bounds what waits for a parent that does not read, in bytes.
const serverOutboxLimit = 2 * maxObjectBody

// errOrphan: the parent's end of the socket is closed.
var errOrphan = errors.New("the parent process is gone")

// Serve is the life of an HSM's process. It reads from conn what to open, opens it, and
// works until the parent says goodbye (then it returns nil, the token being closed), until
// the token cannot be opened (that error, which the parent has been told too), or until
// ctx ends. When the parent is gone it ends the process at once, with status 82, without
// waiting for calls that hang in the module, and with it the programs that the module started.
//
// It changes the process: SIGINT, SIGTERM and SIGHUP are ignored, since the parent
// says when to go; SIGUSR2 says that the parent has died; when memory runs out the kernel
// ends this process before the parent; core dumps and tracing are off; GOMAXPROCS becomes the number of calls
// at once + 2.
func Serve(ctx context.Context, conn net.Conn, open OpenFunc) error {
	ignoreSignals()
	dieWithParent()
	err := dieFirst()
	if err != nil { // the proxy logs what this process prints
		fmt.Fprintln(os.Stderr, "the HSM's process may be ended later than the proxy when memory runs out:", err)
	}
	err = ForbidDumps()
	if err != nil {
		return err
	}
	err = serve(ctx, conn, open, setProcs)
	if errors.Is(err, errOrphan) {
		endOrphan()
	}
	return err
}

// server is the work of one process. Its reader waits for nothing but the
// socket, so that pings are answered while every session hangs.
type server struct {
	conn     net.Conn
	out      *outbox
	open     OpenFunc
	setProcs func(calls int)

	callCtx  context.Context // of every call of the token; never ends
	patience time.Duration   // a call older than this is hung
	clock    *runClock       // measures the age of calls in sessions
	epoch    time.Time       // the time in the queue is measured from here
	jobs     chan *job       // as large as the parent's limit: the reader never waits
	finds    chan *job       // likewise, for Find
	listings chan *job       // likewise, for Keys
	closing  bool            // goodbye was said; the reader's own
	running  sync.WaitGroup  // opening, and sessions

	mu       sync.Mutex
	searches map[uint64]context.CancelFunc // of Keys and Find, by frame id
	token    hsm.Token                     // nil until it is open
	sessions []session
	ended    bool
	endErr   error // what serve returns; good if ended
}

// serve is Serve without what it does to the process.
func serve(ctx context.Context, conn net.Conn, open OpenFunc, setProcs func(calls int)) error {
	s := &server{
		conn: conn, out: newOutbox(conn, serverOutboxLimit), open: open, setProcs: setProcs,
		callCtx: context.WithoutCancel(ctx), epoch: time.Now(), clock: newRunClock(),
		searches: map[uint64]context.CancelFunc{},
	}
	stop := context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	defer stop()
	ticking, still := context.WithCancel(ctx)
	defer still()
	go s.clock.tick(ticking)
	in := newFrameReader(conn, requestLimit)
	err := s.begin(ctx, in)
	if err == nil {
		err = s.read(in)
	}
	s.end(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endErr
}

// begin reads the hello and opens the token in the background.
func (s *server) begin(ctx context.Context, in *frameReader) error {
	first, err := in.next()
	if err != nil {
		return readError(err)
	}
	h, err := parseHello(first)
	if err != nil {
		s.refuse(err)
		return err
	}
	s.patience = h.HangTimeout
	for _, queue := range []*chan *job{&s.jobs, &s.finds, &s.listings} {
		*queue = make(chan *job, h.MaxInFlight)
	}
	s.running.Go(func() { s.start(ctx, h.Settings) })
	return nil
}

// readError makes errOrphan of a socket that ended.
func readError(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	return fmt.Errorf("%w: %w", errOrphan, err)
}

// start opens the token and lets the sessions work.
func (s *server) start(ctx context.Context, settings json.RawMessage) {
	token, count, err := s.open(ctx, settings)
	clear(settings)
	if err == nil && (count < 1 || count > maxSessions) {
		err = &hsm.Error{Op: "open", Kind: hsm.ErrModule, Detail: fmt.Sprintf("%d sessions; 1 to %d are possible", count, maxSessions)}
	}
	if err != nil {
		s.settle(err) // before the parent knows, and hangs up
		s.refuse(err)
		s.end(err)
		return
	}
	sessions := make([]session, count+listers)
	s.setProcs(len(sessions))
	s.mu.Lock()
	s.token, s.sessions = token, sessions
	s.mu.Unlock()
	s.send(kindReady, 0, mustJSON(ready{Protocol: protocolVersion, Build: build(), Sessions: count, Info: token.Info()}))
	for i := range sessions {
		jobs := s.jobs
		switch {
		case i == count:
			jobs = s.listings
		case i > count:
			jobs = s.finds
		}
		s.running.Go(func() { s.work(&sessions[i], jobs, token) })
	}
}

// refuse tells the parent why there is no token.
func (s *server) refuse(err error) {
	s.send(kindFailed, 0, mustJSON(failed{Protocol: protocolVersion, Build: build(), Failure: newFailure("open", err)}))
	s.out.wait()
}

// drain ends the process in order: the calls in flight, the token, the connection.
// The token is closed with no call in it: a module finalized under a call crashes.
func (s *server) drain() {
	s.running.Wait()
	s.mu.Lock()
	token := s.token
	s.mu.Unlock()
	var err error
	if token != nil {
		err = token.Close(s.callCtx)
	}
	s.out.wait()
	s.end(err)
}

// settle says what serve returns. Only the first call counts.
func (s *server) settle(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.ended, s.endErr = true, err
	}
}

// end settles what serve returns and closes the connection, which stops the reader.
func (s *server) end(err error) {
	s.settle(err)
	s.out.fail(errOrphan)
	_ = s.conn.Close()
}

// send queues one frame for the parent. A parent that has stopped reading for so
// long that the outbox is full is as good as gone.
func (s *server) send(k kind, id uint64, body []byte) {
	s.sendFrame(appendFrame(nil, frame{kind: k, id: id, body: body}))
}

func (s *server) sendFrame(b []byte) {
	err := s.out.send(b)
	if err != nil {
		s.end(fmt.Errorf("%w: %w", errOrphan, err))
	}
}
