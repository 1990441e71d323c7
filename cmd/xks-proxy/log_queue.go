package main

// The way from the log to wherever it goes. A log that cannot be written, because its
// disk is slow or its reader stuck, must not stop the service: lines wait in memory,
// and when there are too many they are dropped and counted.

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	logQueueSize = 8 << 20               // bytes that may wait
	logDelay     = 50 * time.Millisecond // lines are written together: one system call for many
	logFlushTime = 2 * time.Second       // at the end, what cannot be written in this time is lost
)

// logQueue is a zapcore.WriteSyncer that never waits.
type logQueue struct {
	out  io.Writer
	wake chan struct{} // capacity 1: there is something to write
	quit chan struct{} // closed by flush
	done chan struct{} // closed when all is written

	mu      sync.Mutex
	waiting []byte
	spare   []byte
	dropped int // lines, since the last batch
}

func newLogQueue(out io.Writer) *logQueue {
	q := &logQueue{out: out, wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go q.run()
	return q
}

// Write takes a line. It never fails and never waits.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+len(line) > logQueueSize {
		q.dropped++
		return len(line), nil
	}
	if len(q.waiting) == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	q.waiting = append(q.waiting, line...)
	return len(line), nil
}

// Sync does nothing: flush is for the end.
func (q *logQueue) Sync() error { return nil }

func (q *logQueue) run() {
	defer close(q.done)
	for {
		select {
		case <-q.wake:
			q.pause()
			q.writeAll()
		case <-q.quit:
			q.writeAll()
			return
		}
	}
}

// pause lets more lines gather, unless the end has come.
func (q *logQueue) pause() {
	select {
	case <-time.After(logDelay):
	case <-q.quit:
	}
}

func (q *logQueue) writeAll() {
	q.mu.Lock()
	batch, dropped := q.waiting, q.dropped
	q.waiting, q.dropped = q.spare[:0], 0
	q.mu.Unlock()
	if dropped > 0 {
		batch = fmt.Appendf(batch, "{\"level\":\"error\",\"time\":%q,\"msg\":\"log lines were dropped: the log could not be written fast enough\",\"lines\":%d}\n",
			time.Now().UTC().Format(logTime), dropped)
	}
	_, _ = q.out.Write(batch) // there is nowhere else to say that the log fails
	if cap(batch) <= 1<<20 {
		q.spare = batch
	}
}

// flush ends the queue and waits until all is written, but not for long.
func (q *logQueue) flush() {
	close(q.quit)
	select {
	case <-q.done:
	case <-time.After(logFlushTime):
	}
}
