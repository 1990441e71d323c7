package logging

// Sentences on stderr about a log that cannot be written. They must never wait: stderr may be stuck
// as well.

import (
	"fmt"
	"io"
	"time"
)

// alarmTime is how long the end of the program waits for stderr.
const alarmTime = 200 * time.Millisecond

// alarm writes one sentence at a time; one that comes while another is being written is left out.
type alarm struct {
	out  io.Writer     // nil: the log itself goes there
	turn chan struct{} // capacity 1: full while a sentence is being written
}

func newAlarm(out io.Writer) *alarm { return &alarm{out: out, turn: make(chan struct{}, 1)} }

// say writes a sentence. It does not wait.
func (a *alarm) say(text string) {
	select {
	case a.turn <- struct{}{}:
		go a.write(text)
	default:
	}
}

// sayAtTheEnd writes a sentence and waits for it, for alarmTime at most.
func (a *alarm) sayAtTheEnd(text string) {
	limit := time.NewTimer(alarmTime)
	defer limit.Stop()
	select {
	case a.turn <- struct{}{}:
	case <-limit.C:
		return
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		a.write(text)
	}()
	select {
	case <-written:
	case <-limit.C:
	}
}

// write requires the turn, which it gives back.
func (a *alarm) write(text string) {
	defer func() { <-a.turn }()
	if a.out != nil {
		_, _ = fmt.Fprintf(a.out, "xks-proxy: %s\n", text) // there is no other place to say it
	}
}
