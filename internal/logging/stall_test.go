package logging

// A reader of the log that stalls: every line arrives whole, once and in order, or is counted.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// stallingWriter stands still while it is told to.
type stallingWriter struct {
	mu  sync.Mutex // held while it stalls
	got bytes.Buffer
}

func (w *stallingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for piece := range bytes.Lines(p) {
		w.got.Write(piece)
		if len(p) < 64<<10 {
			time.Sleep(2 * time.Millisecond) // others write lines meanwhile
		}
	}
	return len(p), nil
}

// Batches of more than 1 MiB follow one another, with smaller ones between them.
func TestStalledReaderGetsEveryLineOnce(t *testing.T) {
	out := new(stallingWriter)
	q := testQueue(out)
	var number atomic.Int64
	const writers, rounds, linesEach = 4, 6, 2000
	padding := strings.Repeat("x", 400)
	for round := range rounds {
		out.mu.Lock()
		var writing sync.WaitGroup
		for writer := range writers {
			writing.Go(func() {
				for i := range linesEach {
					number.Add(1)
					_, _ = fmt.Fprintf(q, `{"writer":%d,"line":%d,"padding":%q}`+"\n",
						writer, round*linesEach+i, padding)
				}
			})
		}
		writing.Wait()
		out.mu.Unlock()
		for i := range 60 { // while the long batch is being written, and after it
			_, _ = fmt.Fprintf(q, `{"writer":%d,"line":%d}`+"\n", writers, round*60+i)
			number.Add(1)
			time.Sleep(5 * time.Millisecond)
		}
	}
	q.flush()
	next := map[int]int{}
	lines, lost := 0, 0
	for line := range strings.Lines(out.got.String()) {
		var l struct{ Writer, Line, Lines int }
		err := json.Unmarshal([]byte(line), &l)
		if err != nil {
			t.Fatalf("not a whole line: %.200s", line)
		}
		if strings.Contains(line, "lost") {
			lost += l.Lines
			continue
		}
		lines++
		if l.Line < next[l.Writer] {
			t.Fatalf("line %d of writer %d came twice or late", l.Line, l.Writer)
		}
		next[l.Writer] = l.Line + 1
	}
	if lines+lost != int(number.Load()) {
		t.Errorf("%d lines, %d said to be lost, of %d", lines, lost, number.Load())
	}
}
