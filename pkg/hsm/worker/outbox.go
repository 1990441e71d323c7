package worker

// The write side of a connection: many goroutines send, none of them ever waits
// for the other side to read.

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
)

// errOutboxFull: the other side does not read, or not fast enough.
var errOutboxFull = errors.New("its process does not read what it is sent")

// outbox collects frames; one goroutine of its own writes all that is there with
// one system call. (Having the senders write instead, without blocking, costs the same CPU and
// needs this goroutine anyway, for when the socket is full.)
type outbox struct {
	conn  net.Conn
	limit int           // bytes that may wait, besides those being written
	wake  chan struct{} // writing has become true; capacity 1

	mu      sync.Mutex
	idle    sync.Cond // writing has become false
	queued  []byte
	spare   []byte
	writing bool
	err     error // nothing more can be sent
}

// newOutbox starts the writing goroutine, which ends with fail.
func newOutbox(conn net.Conn, limit int) *outbox {
	o := &outbox{conn: conn, limit: limit, wake: make(chan struct{}, 1)}
	o.idle.L = &o.mu
	go func() {
		for range o.wake {
			o.flush()
		}
	}()
	return o
}

// send takes a copy of the frame and returns at once. The error is errOutboxFull,
// with which nothing was taken, or what broke the connection.
func (o *outbox) send(frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.err != nil:
		return o.err
	case len(o.queued)+len(frame) > o.limit && len(o.queued) > 0:
		return errOutboxFull
	}
	o.queued = append(o.queued, frame...)
	if !o.writing {
		o.writing = true
		o.wake <- struct{}{} // has room: it is empty while writing is false
	}
	return nil
}

// flush writes until nothing is queued.
func (o *outbox) flush() {
	// Let the goroutines that are ready to send do so first: one system call for
	// all, which halves the cost of a hop.
	runtime.Gosched()
	for {
		batch, more := o.take()
		if !more {
			return
		}
		_, err := o.conn.Write(batch)
		o.recycle(batch)
		if err != nil {
			o.fail(fmt.Errorf("cannot write to the socket: %w", err))
			return
		}
	}
}

// take hands out all that is queued. With nothing queued it ends the writing.
func (o *outbox) take() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queued) == 0 {
		o.writing = false
		o.idle.Broadcast()
		return nil, false
	}
	batch := o.queued
	o.queued, o.spare = o.spare, nil
	return batch, true
}

// recycle clears a written batch, which held plaintexts or a PIN, and keeps it for later.
func (o *outbox) recycle(batch []byte) {
	clear(batch)
	if cap(batch) > keepBuffer {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spare = batch[:0]
}

// fail drops what is queued and ends the writing goroutine, once the connection
// is closed too; every later send answers err. Only the first call counts.
func (o *outbox) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return
	}
	clear(o.queued)
	o.queued, o.spare, o.err, o.writing = nil, nil, err, false
	close(o.wake)
	o.idle.Broadcast()
}

// wait returns when all that was sent is in the socket, or never will be.
func (o *outbox) wait() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.writing {
		o.idle.Wait()
	}
}
