package main

// What is kept of the output of a program: its beginning.

import "bytes"

// maxStderrShown is how many bytes are kept of what a failed command said.
const maxStderrShown = 500

// boundedBuffer keeps the first bytes. Further ones are dropped, or answered with
// full, which closes the pipe of the program that writes them.
type boundedBuffer struct {
	content bytes.Buffer
	limit   int
	full    error
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	kept := min(len(p), b.limit-b.content.Len())
	_, _ = b.content.Write(p[:kept]) // never fails
	if kept < len(p) && b.full != nil {
		return kept, b.full
	}
	return len(p), nil
}
