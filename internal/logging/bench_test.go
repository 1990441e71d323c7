package logging

// What a line of the log costs the request that it is about.

import (
	"io"
	"strings"
	"testing"
	"time"
)

// BenchmarkLogQueue writes lines that all fit into the queue.
func BenchmarkLogQueue(b *testing.B) {
	q := testQueue(io.Discard)
	defer q.flush()
	line := []byte(strings.Repeat("x", 599) + "\n")
	b.ReportAllocs()
	for i := range b.N {
		if i%1000 == 0 {
			b.StopTimer()
			for empty := false; !empty; time.Sleep(time.Millisecond) {
				q.mu.Lock()
				empty = len(q.waiting) == 0
				q.mu.Unlock()
			}
			b.StartTimer()
		}
		_, _ = q.Write(line)
	}
}
