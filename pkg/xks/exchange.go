package xks

// The life of one request, from its first byte to its log line. end is the only place that writes a
// reply and the only place that writes a log line.

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/hsm/catalogue"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/sigv4"
	"xks-proxy/pkg/xks/listener"
)

// exchange is one request and everything known about it.
type exchange struct {
	handler *Handler
	config  *Config // of the state that serves this request
	request *http.Request
	ctx     context.Context // ends at the deadline
	cancel  context.CancelFunc
	conn    *listener.Conn // nil if it is not known
	clock   clock
	queued  time.Duration // see timeQueued
	target                // what the path names

	body      *body
	identity  sigv4.Identity
	fields    *request
	key       *catalogue.Key
	decision  *authz.Decision // nil if no policy was evaluated
	version   uint32
	hasKey    bool // version is set
	hsmCalls  hsmCalls
	plaintext []byte // decrypted; cleared when it has been sent
	panicked  any
	stack     []byte
}

// hsmCalls is how the HSMs were called, for the log line.
type hsmCalls struct {
	servedBy   string // computed the answer
	verifiedBy string // decrypted it again (E4)
	attempts   int    // in all calls
	hedges     int    // of these, because another HSM was slow
	faults     []error
}

func (c *hsmCalls) add(t group.Trace) {
	c.attempts += t.Attempts
	c.hedges += t.Hedges
	c.faults = append(c.faults, t.Faults...)
}

// target is what a path names. For a 404 it is empty.
type target struct {
	store *keyStore
	op    *operation
	keyID string
}

func (h *Handler) begin(s *state, w http.ResponseWriter, r *http.Request) *exchange {
	CloseIfAmbiguous(w, r)
	x := &exchange{
		handler: h, config: &s.config, request: r, conn: listener.ConnectionOf(r),
		clock: s.config.startClock(r),
	}
	x.readInTime(w)
	return x
}

// The time kept back from the budget for writing the answer: answerTime, or a part (one in
// answerShare) of a small budget.
const (
	answerTime  = 10 * time.Millisecond
	answerShare = 20
)

// serve runs the operation and answers the request.
func (x *exchange) serve(w http.ResponseWriter, t target) {
	x.target = t
	x.ctx, x.cancel = context.WithDeadline(
		x.request.Context(), x.clock.deadline.Add(-min(answerTime, x.config.Budget/answerShare)),
	)
	defer x.cancel()
	answer, err := x.runSafely()
	x.end(w, answer, err)
}

// refuse answers a request that reaches no operation.
func (x *exchange) refuse(w http.ResponseWriter, e *apiError) {
	x.end(w, nil, e)
}

// runSafely turns a panic into an InternalException (requirement U12). It names its results,
// because a deferred function can change them in no other way.
func (x *exchange) runSafely() (answer response, err error) {
	defer func() {
		if p := recover(); p != nil {
			x.panicked, x.stack = p, debug.Stack()
			answer, err = nil, failure(
				internal, "The request could not be served.", errors.New("panic"),
			)
		}
	}()
	return x.run()
}

// run makes the checks in the order of requirement A8. It reveals nothing about keys to a caller
// that is not authenticated.
func (x *exchange) run() (response, error) {
	if err := x.readBody(); err != nil {
		return nil, err
	}
	if err := x.authenticate(); err != nil {
		x.peek()
		return nil, err
	}
	x.queued = x.timeQueued()
	if x.op.shed {
		x.store.load.enter()
		defer x.store.load.leave()
		if err := x.admit(); err != nil {
			x.peek()
			return nil, err
		}
	}
	if err := x.parse(); err != nil {
		return nil, err
	}
	if x.op.check != nil {
		if err := x.op.check(x); err != nil {
			return nil, err
		}
	}
	if err := x.storeBlocked(); err != nil {
		return nil, err
	}
	if x.ctx.Err() != nil {
		return nil, errTooLate
	}
	answer, err := x.op.run(x)
	if err := x.blockedMeanwhile(); err != nil {
		return nil, err
	}
	return answer, err
}

func (x *exchange) authenticate() error {
	r := x.request
	path, query, _ := strings.Cut(r.RequestURI, "?")
	identity, err := x.store.verifier.Verify(&sigv4.Request{
		Method: r.Method, Path: path, Query: query, Host: r.Host, Header: r.Header,
		ContentLength: r.ContentLength, Body: x.body.bytes,
	}, x.clock.start)
	if err != nil {
		return err
	}
	x.identity = identity
	x.conn.MarkAuthenticated(x.store.name, x.store.shared)
	return nil
}

func (x *exchange) parse() error {
	if !isJSON(x.request.Header["Content-Type"]) {
		return invalid("The Content-Type is not application/json.")
	}
	fields, err := parseRequest(x.body.bytes)
	if err != nil {
		x.peek()
		return err
	}
	x.fields = fields
	return fields.requireMetadata(x.op.fields...)
}

// peek reads the requestMetadata of a refused request, for its log line only (L1).
func (x *exchange) peek() { x.fields = &request{Metadata: metadataOf(x.body.bytes)} }

// isJSON reports whether the Content-Type is application/json. Parameters and letter case do not
// matter (requirement U6).
func isJSON(contentType []string) bool {
	if len(contentType) != 1 {
		return false
	}
	mediaType, _, _ := strings.Cut(contentType[0], ";")
	mediaType = strings.TrimSpace(mediaType)
	// Equal lengths: letters outside ASCII that fold to ASCII are longer.
	return len(mediaType) == len(jsonType[0]) && strings.EqualFold(mediaType, jsonType[0])
}

// findKey resolves the external key id, and checks policies and the quota of the key. No operation
// reaches a key in another way (requirement A8).
func (x *exchange) findKey() error {
	key, err := x.store.key(x.ctx, x.keyID)
	if err != nil {
		return err
	}
	x.key = key
	if x.store.policies != nil {
		if err := x.authorize(); err != nil {
			return err
		}
	}
	if !x.store.usage.keys.allow(x.store.keyRate, key.Label, sinceEpoch) {
		return errOverKeyRate
	}
	return nil
}

// keyExists distinguishes a missing key from a missing version of a key. It costs nothing after a
// look-up of the version.
func (x *exchange) keyExists() bool {
	_, err := x.store.load.resolver.Key(x.ctx, x.key.Label)
	return err == nil
}

var replies = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

var (
	jsonType     = []string{"application/json"}
	lengthHeader = "Content-Length"
)

// end writes the reply and the log line, and clears plaintext.
func (x *exchange) end(w http.ResponseWriter, answer response, err error) {
	defer x.wipe()
	status := http.StatusOK
	var failed *apiError
	if err != nil {
		failed = x.op.allowed(apiErrorOf(err))
		answer, status = failed, failed.httpStatus()
	}
	buffer := replies.Get().(*[]byte)
	text := answer.appendJSON((*buffer)[:0])
	header := w.Header()
	header["Content-Type"] = jsonType
	header[lengthHeader] = []string{itoa(len(text))}
	w.WriteHeader(status)
	var writeErr error
	if x.request.Method != http.MethodHead {
		_, writeErr = w.Write(text)
	}
	took := time.Since(x.clock.start)
	x.count(failed, took)
	x.log(status, failed, writeErr, took)
	clear(text)
	*buffer = text[:0]
	replies.Put(buffer)
}

func (x *exchange) wipe() {
	clear(x.plaintext)
	if x.fields != nil {
		x.fields.wipe()
	}
	if x.body != nil {
		x.body.release(x.handler)
	}
}

var logBuffers = sync.Pool{New: func() any { b := make([]zap.Field, 0, 32); return &b }}

// log writes the log line of this request (requirement L1).
func (x *exchange) log(status int, failed *apiError, writeErr error, took time.Duration) {
	level := zap.InfoLevel
	switch {
	case failed != nil && failed.name == internal,
		// only authenticated clients can cause an error line
		failed != nil && failed.name == dependencyTimeout && x.fields != nil:
		level = zap.ErrorLevel
	case len(x.hsmCalls.faults) > 0, x.denied():
		level = zap.WarnLevel
	}
	log := x.config.Log
	if !x.authenticated() {
		log = x.config.UnauthenticatedLog(reasonOf(failed))
	}
	if log == nil {
		return // UnauthenticatedLog counts it
	}
	entry := log.Check(level, "request")
	if entry == nil {
		return
	}
	buffer := logBuffers.Get().(*[]zap.Field)
	fields := x.appendLogFields((*buffer)[:0], status, failed, writeErr, took)
	entry.Write(fields...)
	clear(fields)
	*buffer = fields[:0]
	logBuffers.Put(buffer)
}
