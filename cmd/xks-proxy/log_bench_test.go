package main

// What a line of the log costs the request that it is about.

import (
	"io"
	"strings"
	"testing"
)

func BenchmarkLogQueue(b *testing.B) {
	q := testQueue(io.Discard)
	defer q.flush()
	line := []byte(strings.Repeat("x", 599) + "\n")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = q.Write(line)
		}
	})
}
