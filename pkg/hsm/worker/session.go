package worker

// The process's side at work: the reader gives requests to sessions, sessions call the token.

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"xks-proxy/pkg/hsm"
)

// keysPatience is how many times longer than another call one step of a listing may take before it
// is hung: a module may look through all its objects in one call.
const keysPatience = 10

// listers is how many listings of keys (one) and searches for one key (two) run at once, beside the
// sessions' calls: they are slow, and must neither hold requests up nor be held up by them. A search
// does not wait for a listing, which may take minutes.
const listers = 3

// session is one goroutine that calls the token; the token gives it a PKCS#11 session.
type session struct {
	since atomic.Int64 // when its call began or made progress last, in ns of server.clock; 0 = idle
	keys  atomic.Bool  // the call lists all keys
}

// job is one request on its way through the process. It is reused.
type job struct {
	kind    kind
	id      uint64
	arrived time.Duration // since server.epoch
	body    []byte
	frame   []byte // the reply
	ctx     context.Context
}

var jobPool = sync.Pool{New: func() any { return new(job) }}

// release gives a job back, cleared: plaintexts were in it.
func (j *job) release() {
	clear(j.body)
	clear(j.frame)
	j.ctx = nil
	if cap(j.body) > keepBuffer || cap(j.frame) > keepBuffer {
		return
	}
	jobPool.Put(j)
}

// read takes frames until the connection ends.
func (s *server) read(in *frameReader) error {
	defer s.close()
	for {
		f, err := in.next()
		if err != nil {
			return readError(err)
		}
		switch f.kind {
		case kindHello:
			return fmt.Errorf("%w: a second hello", ErrProtocol)
		case kindPing:
			s.send(kindPong, f.id, mustJSON(s.pong()))
		case kindGoodbye:
			if !s.closing {
				s.close()
				go s.drain()
			}
		case kindAbandon:
			s.abandon(f.id)
		default:
			s.take(f)
		}
	}
}

// beginSearch makes the context of a search, which ends when the search does or when nobody waits for it
// any more. Other calls cannot be cut short.
func (s *server) beginSearch(id uint64) context.Context {
	ctx, cancel := context.WithCancel(s.callCtx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.searches[id] = cancel
	return ctx
}

// abandon ends the search with that id. It does nothing if there is none.
func (s *server) abandon(id uint64) {
	s.mu.Lock()
	cancel, known := s.searches[id]
	delete(s.searches, id)
	s.mu.Unlock()
	if known {
		cancel()
	}
}

// close takes no more jobs. Sessions end when the queue is empty.
func (s *server) close() {
	if !s.closing {
		s.closing = true
		close(s.jobs)
		close(s.finds)
		close(s.listings)
	}
}

// take queues a request, or answers it at once.
func (s *server) take(f frame) {
	if s.closing {
		s.refuseCall(f, &hsm.Error{Op: f.kind.String(), Kind: hsm.ErrUnavailable, Detail: "its process is closing"})
		return
	}
	j := jobPool.Get().(*job)
	j.kind, j.id, j.arrived = f.kind, f.id, time.Since(s.epoch)
	j.body = append(j.body[:0], f.body...)
	queue := s.jobs
	j.ctx = s.callCtx
	switch f.kind {
	case kindKeys:
		queue = s.listings
	case kindFind:
		queue = s.finds
	}
	if j.kind.isSearch() {
		j.ctx = s.beginSearch(f.id)
	}
	select {
	case queue <- j:
	default:
		j.release()
		s.abandon(f.id)
		s.refuseCall(f, &hsm.Error{Op: f.kind.String(), Kind: hsm.ErrBusy, Detail: fmt.Sprintf("%d calls wait for a session", cap(queue))})
	}
}

func (s *server) refuseCall(f frame, err error) {
	s.send(kindError, f.id, mustJSON(newFailure(f.kind.String(), err)))
}

// pong counts what the sessions are doing. Calls age only while this process runs: an answer that came
// during a standstill waits to be fetched, it does not hang.
func (s *server) pong() pong {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	var p pong
	now := s.clock.now()
	for i := range sessions {
		since := time.Duration(sessions[i].since.Load())
		if since == 0 {
			continue
		}
		age, patience := now-since, s.patience
		if sessions[i].keys.Load() {
			patience *= keysPatience
		}
		p.Busy++
		p.Oldest = max(p.Oldest, age)
		if age > patience {
			p.Hung++
			p.Overdue = max(p.Overdue, age-patience)
		}
	}
	return p
}

// work does job after job.
func (s *server) work(own *session, jobs <-chan *job, token hsm.Token) {
	progress := func() {
		if own.since.Load() != 0 {
			own.since.Store(int64(s.clock.now()))
		}
	}
	for j := range jobs {
		r, err := parseRequest(j.body)
		if err != nil {
			s.end(err)
			return
		}
		waited := time.Since(s.epoch) - j.arrived
		if r.timeout > 0 && waited > r.timeout {
			// Nobody waits for it any more. Without this an HSM that fell behind would stay behind.
			j.fail(&hsm.Error{Op: j.kind.String(), Kind: s.lateness(), Detail: fmt.Sprintf("no session was free for %v", waited)})
		} else {
			own.keys.Store(j.kind == kindKeys)
			own.since.Store(int64(s.clock.now()))
			searching := j.ctx
			if j.kind.isSearch() {
				searching = hsm.WithProgress(searching, progress)
			}
			s.call(j, &r, token, searching)
			own.since.Store(0)
		}
		if j.kind.isSearch() {
			s.abandon(j.id)
		}
		s.sendFrame(endFrame(j.frame, 0))
		j.release()
	}
}

// lateness is what it means that a job found no session in time: that there are more
// calls than the HSM has sessions for, which is not its fault, unless calls hang in some of them.
func (s *server) lateness() error {
	if s.pong().Hung > 0 {
		return hsm.ErrTimeout
	}
	return hsm.ErrBusy
}

// call has the token do the job and makes the reply, all but its length. searching is the context of
// Keys and Find, which report their progress.
func (s *server) call(j *job, r *request, token hsm.Token, searching context.Context) {
	switch j.kind {
	case kindEncrypt:
		sealed, err := token.Encrypt(s.callCtx, r.key, r.aad, r.data)
		if err == nil {
			err = checkSealed(sealed)
		}
		if err != nil {
			j.fail(err)
			return
		}
		j.begin(kindSealed)
		j.frame = appendSealed(j.frame, sealed)
	case kindDecrypt:
		plaintext, err := token.Decrypt(s.callCtx, r.key, r.aad, hsm.Sealed{IV: r.iv, Ciphertext: r.data, Tag: r.tag})
		if err == nil && len(plaintext) > hsm.MaxDataSize {
			err = fmt.Errorf("the token answered %d bytes of plaintext", len(plaintext))
		}
		if err != nil {
			j.fail(err)
			return
		}
		j.begin(kindPlaintext)
		j.frame = append(j.frame, plaintext...)
		clear(plaintext)
	case kindKeys:
		objects, err := token.Keys(searching)
		j.list(objects, err)
	case kindFind:
		objects, err := token.Find(searching, r.key.Label)
		j.list(objects, err)
	}
}

func (j *job) begin(k kind) {
	j.frame = beginFrame(j.frame[:0], k, j.id)
}

// fail makes the reply an error.
func (j *job) fail(err error) {
	j.begin(kindError)
	j.frame = append(j.frame, mustJSON(newFailure(j.kind.String(), err))...)
}

// list makes the reply a list of keys, or an error.
func (j *job) list(objects []hsm.Object, err error) {
	var body []byte
	if err == nil {
		body, err = hsm.MarshalObjects(objects)
	}
	if err == nil && len(body) > maxObjectBody {
		err = fmt.Errorf("the list of %d keys is %d bytes, at most %d", len(objects), len(body), maxObjectBody)
	}
	if err != nil {
		j.fail(err)
		return
	}
	j.begin(kindObjects)
	j.frame = append(j.frame, body...)
}
