// Package subprocess is for the programs that this one runs.
package subprocess

// What is kept of the output of a program: its beginning.

import (
	"bytes"
)

// MaxStderrShown is how many bytes are kept of what a failed command said.
const MaxStderrShown = 500

// Beginning keeps the first bytes. Further ones are dropped, or answered with
// full, which closes the pipe of the program that writes them.
type Beginning struct {
	Content bytes.Buffer
	Limit   int
	Full    error
}

// Write implements io.Writer.
func (b *Beginning) Write(p []byte) (int, error) {
	kept := min(len(p), b.Limit-b.Content.Len())
	_, _ = b.Content.Write(p[:kept]) // never fails
	if kept < len(p) && b.Full != nil {
		return kept, b.Full
	}
	return len(p), nil
}
