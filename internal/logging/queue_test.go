package logging

// The queue of the log: nothing is lost but what is said to be.

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// stuckWriter blocks until it is let go.
type stuckWriter struct {
	letGo chan struct{}
	mu    sync.Mutex
	got   bytes.Buffer
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	<-w.letGo
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.Write(p)
}

func (w *stuckWriter) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.got.String()
}

// testQueue writes outages as JSON, as the log does.
func testQueue(out io.Writer) *logQueue {
	return newLogQueue(&logSink{out: out}, outageLine(newEncoder("json")), newAlarm(nil))
}

// A log that nobody reads costs no request any time, and not more than its memory;
// what was lost is counted in it later.
func TestStuckLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuckWriter{letGo: make(chan struct{})}
		q := testQueue(out)
		line := []byte(strings.Repeat("x", 1023) + "\n")
		start := time.Now()
		const lines = 3 * logQueueSize / 1024
		for range lines {
			n, err := q.Write(line)
			if n != len(line) || err != nil {
				t.Fatal(n, err)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("writing waited for %v", took)
		}
		time.Sleep(time.Second)
		_, _ = q.Write([]byte("after\n")) // wakes the writer once more, when it is let go
		close(out.letGo)
		q.flush()
		synctest.Wait()
		text := out.text()
		written := strings.Count(text, "xxx\n")
		if written < logQueueSize/1024-1 || written > 2*logQueueSize/1024 {
			t.Errorf("%d lines were written", written)
		}
		if want := fmt.Sprintf(`"lines":%d}`, lines-written); !strings.Contains(text, want) {
			t.Errorf("the log does not say %s: …%s", want, text[len(text)-300:])
		}
	})
}

// Flushing does not wait forever.
func TestFlushOfAStuckLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &stuckWriter{letGo: make(chan struct{})}
		q := testQueue(out)
		_, _ = q.Write([]byte("line\n"))
		start := time.Now()
		q.flush()
		if took := time.Since(start); took != logFlushTime {
			t.Errorf("it waited for %v", took)
		}
		close(out.letGo)
	})
}

// Every line arrives, in order, also from concurrent writers.
func TestLogQueueOrder(t *testing.T) {
	out := &stuckWriter{letGo: make(chan struct{})}
	close(out.letGo)
	q := testQueue(out)
	var want strings.Builder
	for i := range 5000 {
		line := fmt.Sprintf("%d\n", i)
		want.WriteString(line)
		_, _ = q.Write([]byte(line))
		if i%1000 == 0 {
			time.Sleep(60 * time.Millisecond)
		}
	}
	q.flush()
	if out.text() != want.String() {
		t.Errorf("%d bytes of %d", len(out.text()), want.Len())
	}
}
