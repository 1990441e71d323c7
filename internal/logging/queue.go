package logging

// The way from the log to its file. A log that cannot be written, because its disk is full or slow
// or its reader is stuck, must not stop the service: lines wait in memory, and what does not fit
// is dropped, counted and reported. Lines that strangers cause have a small share of that memory,
// and never take the place of another line.

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	logQueueSize    = 8 << 20               // bytes that may wait; as many may be in a write
	strangerBacklog = logQueueSize / 32     // with more waiting, strangers have no lines
	logDelay        = 50 * time.Millisecond // lines are written together: one system call for many
	logRetry        = time.Second           // between two tries to write, after an error
	logStuckTime    = 5 * time.Second       // a write that takes longer is reported as a failure
	logFlushTime    = 2 * time.Second       // at the end, what is not written then is lost
	logReopenTime   = 2 * time.Second       // for a write under way when files are changed
	maxSpare        = 1 << 20               // bytes of a buffer that is kept for later
	alarmPause      = 10 * time.Second      // between two sentences on stderr
)

var (
	errLogSlow  = errors.New("it could not be written fast enough")
	errLogStuck = errors.New("a write does not end")
)

// logOutage is a time in which the log could not be written.
type logOutage struct {
	since time.Time
	until time.Time // zero: it goes on
	cause error
}

// logQueue is a zapcore.WriteSyncer whose Write never waits.
type logQueue struct {
	sink  *logSink                           // for run
	line  func(lost int, o logOutage) []byte // makes the log line about an outage
	alarm *alarm

	wake    chan struct{} // capacity 1: there is something to write
	reopens chan reopening
	quit    chan struct{} // closed by flush
	done    chan struct{} // closed when all is written

	mu         sync.Mutex
	waiting    []byte
	spare      []byte     // a buffer that nobody uses; nil: none
	unwritten  []byte     // lines that are taken out of waiting and not yet written
	writeBegan time.Time  // of the write that is under way; zero: none is
	dropped    int        // lines, since the last batch
	outage     *logOutage // that the log does not mention yet; nil: none
	lost       int64      // lines, since the start
	lastLost   time.Time

	complaint rate.Sometimes // about dropped lines; guarded by mu
}

// reopening asks for another file.
type reopening struct {
	file   *logSink
	result chan<- error
}

func newLogQueue(sink *logSink, line func(int, logOutage) []byte, alarm *alarm) *logQueue {
	q := &logQueue{
		sink: sink, line: line, alarm: alarm,
		wake: make(chan struct{}, 1), reopens: make(chan reopening),
		quit: make(chan struct{}), done: make(chan struct{}),
		complaint: rate.Sometimes{Interval: alarmPause},
	}
	go q.run()
	return q
}

// Write takes a line. It never fails and never waits.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Lines of strangers do not count, so that other lines always have these bytes.
	if len(q.waiting)+len(line) > logQueueSize+strangerBacklog {
		q.drop()
		return len(line), nil
	}
	q.add(line)
	return len(line), nil
}

// writeStranger takes a line that a stranger caused, unless lines wait already.
func (q *logQueue) writeStranger(line []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+len(q.unwritten)+len(line) > strangerBacklog {
		return false
	}
	q.add(line)
	return true
}

// add requires mu.
func (q *logQueue) add(line []byte) {
	if len(q.waiting) == 0 {
		q.signal()
	}
	q.waiting = append(q.waiting, line...)
}

// drop requires mu.
func (q *logQueue) drop() {
	q.dropped++
	q.lost++
	q.lastLost = time.Now()
	q.complaint.Do(func() {
		q.alarm.say(fmt.Sprintf("log lines are being lost, %d so far: %v", q.lost, q.why()))
	})
}

// why requires mu.
func (q *logQueue) why() error {
	switch {
	case q.outage != nil:
		return q.outage.cause
	case q.stuck(time.Now()):
		return errLogStuck
	}
	return errLogSlow
}

// stuck requires mu.
func (q *logQueue) stuck(now time.Time) bool {
	return !q.writeBegan.IsZero() && now.Sub(q.writeBegan) > logStuckTime
}

func (q *logQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Sync implements zapcore.WriteSyncer. It does nothing: flush ends the queue.
func (q *logQueue) Sync() error { return nil }

func (q *logQueue) run() {
	defer close(q.done)
	for {
		select {
		case <-q.wake:
			q.pause()
			q.writeAll()
		case r := <-q.reopens:
			r.result <- q.sink.replace(r.file)
		case <-q.quit:
			for q.pending() {
				q.writeAll()
			}
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

func (q *logQueue) pending() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) > 0 || q.dropped > 0 || q.outage != nil
}

// writeAll writes what waits. After an error it tries again until it succeeds or the end has come;
// new lines wait meanwhile.
func (q *logQueue) writeAll() {
	batch := q.take()
	rest := batch
	for last := false; len(rest) > 0; {
		var err error
		q.begin()
		rest, err = q.sink.write(rest)
		q.end(rest, err)
		switch {
		case err != nil && last:
			q.lose(rest)
			rest = nil
		case err != nil:
			last = q.awaitRetry()
		}
	}
	q.release(batch)
}

// take returns the lines that wait, and a line about those that were lost.
func (q *logQueue) take() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch, dropped := q.waiting, q.dropped
	outage := logOutage{until: time.Now(), cause: errLogSlow}
	if q.outage != nil {
		outage = *q.outage
	}
	// spare is given away: a batch that is too long to be kept must not leave it with two owners.
	q.waiting, q.spare, q.dropped = q.spare[:0], nil, 0
	if dropped > 0 || q.outage != nil {
		batch = append(batch, q.line(dropped, outage)...)
	}
	q.outage = nil
	q.unwritten = batch
	return batch
}

func (q *logQueue) begin() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writeBegan = time.Now()
}

// end notes the result of a write.
func (q *logQueue) end(unwritten []byte, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	stuck, began := q.stuck(now), q.writeBegan
	q.unwritten, q.writeBegan = unwritten, time.Time{}
	switch {
	case err == nil && q.outage != nil: // it was written again
		q.outage.until = now
	case err == nil && stuck:
		q.outage = &logOutage{since: began, until: now, cause: errLogStuck}
	case err == nil:
		return
	case q.outage == nil:
		q.outage = &logOutage{since: now, cause: err}
		q.alarm.say("the log cannot be written; lines wait in memory: " + err.Error())
		return
	default:
		q.outage.cause = err
		return
	}
	q.alarm.say(fmt.Sprintf("the log is written again after %s; %d lines were lost",
		q.outage.until.Sub(q.outage.since).Round(time.Second), q.dropped))
	q.signal()
}

// awaitRetry waits until it is time for another try. It reports whether that is the last one.
func (q *logQueue) awaitRetry() bool {
	select {
	case <-time.After(logRetry):
	case r := <-q.reopens:
		r.result <- q.sink.replace(r.file)
	case <-q.quit:
		return true
	}
	return false
}

// lose counts lines that are given up at the end.
func (q *logQueue) lose(lines []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost += countLines(lines) + countLines(q.waiting)
	q.lastLost = time.Now()
	q.waiting, q.dropped, q.outage, q.unwritten = nil, 0, nil, nil
}

func countLines(lines []byte) int64 { return int64(bytes.Count(lines, []byte{'\n'})) }

func (q *logQueue) release(batch []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if cap(batch) <= maxSpare {
		q.spare = batch
	}
}

// reopen switches to another file. It returns when later lines go there.
func (q *logQueue) reopen(file *logSink) error {
	result := make(chan error, 1)
	limit := time.NewTimer(logReopenTime)
	defer limit.Stop()
	select {
	case q.reopens <- reopening{file, result}:
		return <-result
	case <-limit.C:
		return errors.Join(errors.New("a write to the old file is still under way"), file.close())
	case <-q.done:
		return file.close()
	}
}

// flush ends the queue and waits until all is written, but not for long. What is lost then is
// reported on stderr only.
func (q *logQueue) flush() {
	close(q.quit)
	select {
	case <-q.done:
	case <-time.After(logFlushTime): // the write goes on, in vain
		q.mu.Lock()
		q.lost += countLines(q.unwritten) + countLines(q.waiting)
		q.mu.Unlock()
	}
	if lost := q.State(time.Now()).Lost; lost > 0 {
		q.alarm.sayAtTheEnd(fmt.Sprintf("%d lines of the log were lost since the start", lost))
	}
}
