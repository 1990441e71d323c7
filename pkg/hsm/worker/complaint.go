package worker

// An error that comes again and again, as while an HSM is away: said once, and then now and
// then with a count, so that the log of an outage can be read.

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// complaintEvery is how often the same error is said.
const complaintEvery = time.Minute

// complaint is the last error that was said. The zero value has said none.
type complaint struct {
	text   string
	said   time.Time
	unsaid int // equal ones since
}

// due reports whether an error is to be said at this time, and how many equal ones have not been since the
// last that was.
func (c *complaint) due(text string, now time.Time) (int, bool) {
	if text == c.text && now.Sub(c.said) < complaintEvery {
		c.unsaid++
		return 0, false
	}
	unsaid := 0
	if text == c.text {
		unsaid = c.unsaid
	}
	*c = complaint{text: text, said: now}
	return unsaid, true
}

// complain logs that a process has ended, having served for some time. One that had served for long is no
// repetition.
func (w *Worker) complain(err error, served, pause time.Duration) {
	if served >= w.config.BackoffMax {
		w.complaint = complaint{}
	}
	level := zapcore.ErrorLevel
	unsaid, due := w.complaint.due(err.Error(), time.Now())
	if !due {
		level = zapcore.DebugLevel
	}
	fields := []zap.Field{zap.Error(err), zap.Duration("in", pause)}
	if unsaid > 0 {
		fields = append(fields, zap.Int("same_before", unsaid))
	}
	w.config.Log.Log(level, "the HSM's process ended and will be started again", fields...)
}

// stderrLevel is where lines go that the next process prints: an HSM's library says the same at
// every start that fails.
func (w *Worker) stderrLevel() zapcore.Level {
	if w.complaint.unsaid > 0 {
		return zapcore.DebugLevel
	}
	return zapcore.WarnLevel
}
