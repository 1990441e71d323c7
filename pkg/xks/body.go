package xks

// The body of a request, read in bounded time and space before anything is known about the client
// (requirements U9, U13, R3).

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
)

// body is a request's body, in a buffer that is reused.
type body struct {
	bytes    []byte
	reserved int64
}

var bodies = sync.Pool{New: func() any { return &body{bytes: make([]byte, 0, smallBody)} }}

const (
	smallBody = 4 << 10  // most requests
	keptBody  = 64 << 10 // larger buffers are not kept
)

// readInTime limits the reading of the body to the request's deadline, because Body.Read has no
// context. net/http removes the deadline once the body has been read.
func (x *exchange) readInTime(w http.ResponseWriter) {
	if x.request.ContentLength == 0 {
		return
	}
	// It fails for a writer without a connection only, as in tests.
	_ = http.NewResponseController(w).SetReadDeadline(x.clock.deadline)
}

// readBody reads the body, at most MaxBody bytes. Memory grows with what has arrived, not with what
// Content-Length announces.
func (x *exchange) readBody() error {
	limit := x.config.MaxBody
	if x.request.ContentLength > int64(limit) {
		return errBodyTooBig
	}
	x.body = bodies.Get().(*body)
	b := x.body
	if !b.reserve(x.handler, x.config.MaxBodies, int64(cap(b.bytes))) {
		return errOverMaxBodies
	}
	for {
		if len(b.bytes) > limit {
			return errBodyTooBig
		}
		if len(b.bytes) == cap(b.bytes) {
			if !b.reserve(x.handler, x.config.MaxBodies, int64(cap(b.bytes))) {
				return errOverMaxBodies
			}
			bigger := make([]byte, len(b.bytes), 2*cap(b.bytes))
			copy(bigger, b.bytes)
			clear(b.bytes)
			b.bytes = bigger
		}
		n, err := x.request.Body.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		switch {
		case errors.Is(err, io.EOF):
			if len(b.bytes) > limit {
				return errBodyTooBig
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded),
			err != nil && errors.Is(x.ctx.Err(), context.DeadlineExceeded):
			return failure(dependencyTimeout, "The request body did not arrive in time.", err)
		case err != nil:
			return failure(validation, "The request body did not arrive whole.", err)
		}
	}
}

func (b *body) reserve(h *Handler, max, n int64) bool {
	if h.bodies.Add(n) > max {
		h.bodies.Add(-n)
		return false
	}
	b.reserved += n
	return true
}

func (b *body) release(h *Handler) {
	h.bodies.Add(-b.reserved)
	clear(b.bytes)
	b.reserved, b.bytes = 0, b.bytes[:0]
	if cap(b.bytes) <= keptBody {
		bodies.Put(b)
	}
}
