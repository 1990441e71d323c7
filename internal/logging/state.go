package logging

// The state of the log, for `xks-proxy status` and for metrics.

import (
	"time"
)

// State is the state of the log: what was lost, and whether it can be written.
type State struct {
	Lost       int64     `json:"linesLost"`             // since the start
	LastLost   time.Time `json:"lastLost,omitzero"`     // when a line was last lost
	Suppressed int64     `json:"linesSuppressed"`       // about strangers, since the start
	Failing    string    `json:"failing,omitempty"`     // why it cannot be written now
	Since      time.Time `json:"failingSince,omitzero"` // since when it cannot
	Output     string    `json:"output,omitempty"`      // log.output
}

// State returns the state of the queue: everything but Suppressed and Output.
func (q *logQueue) State(now time.Time) State {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := State{Lost: q.lost, LastLost: q.lastLost}
	switch {
	case q.outage != nil && q.outage.until.IsZero():
		s.Failing, s.Since = q.outage.cause.Error(), q.outage.since
	case q.stuck(now):
		s.Failing, s.Since = errLogStuck.Error(), q.writeBegan
	}
	return s
}
