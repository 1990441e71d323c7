package logging

// Lines about unauthenticated requests. Anyone can cause them, so only a few a second are written.
// All others are counted, and one line every few seconds has the counts.

import (
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

const (
	strangerBurst   = 10              // seconds' worth of lines that may come at once
	strangerSummary = 5 * time.Second // between two lines with counts

	// Each reason has some lines of its own: a flood of one kind must not hide the others.
	reasonRate  = 0.2 // lines a second
	reasonBurst = 5
	maxReasons  = 64 // there are some 30

	// connectionReason is that of failed handshakes and broken requests, which are debug lines.
	connectionReason = "connection"
)

// Strangers limits the lines about unauthenticated requests.
type Strangers struct {
	level zap.AtomicLevel
	main  *zap.Logger                               // for the counts
	over  func(out zapcore.WriteSyncer) *zap.Logger // makes a log for lines of strangers
	queue *logQueue

	mu         sync.Mutex
	shared     *rate.Limiter
	reasons    map[string]*strangerReason
	summing    bool // the next line with counts is on its way
	suppressed int64
}

// strangerReason is one reason for which requests are refused. It is a zapcore.WriteSyncer.
type strangerReason struct {
	of         *Strangers
	log        *zap.Logger
	own        *rate.Limiter
	suppressed int64 // since the last line with counts; guarded by of.mu
}

// Logger returns the log for one line about a request that was refused for the reason, or nil if
// the line is only counted. It is the function that xks.Config needs.
func (s *Strangers) Logger(reason string) *zap.Logger {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.reason(reason)
	if !s.level.Enabled(zap.InfoLevel) {
		return r.log // which drops all but warnings and errors
	}
	if s.shared.Limit() > 0 && (r.own.Allow() || s.shared.Allow()) {
		return r.log
	}
	s.suppress(r)
	return nil
}

// reason requires mu.
func (s *Strangers) reason(name string) *strangerReason {
	if r := s.reasons[name]; r != nil {
		return r
	}
	if len(s.reasons) >= maxReasons {
		name = "other"
	}
	r := s.reasons[name]
	if r == nil {
		r = &strangerReason{of: s, own: rate.NewLimiter(reasonRate, reasonBurst)}
		r.log = s.over(r)
		s.reasons[name] = r
	}
	return r
}

// suppress requires mu.
func (s *Strangers) suppress(r *strangerReason) {
	r.suppressed++
	s.suppressed++
	if !s.summing {
		s.summing = true
		time.AfterFunc(strangerSummary, s.summarize)
	}
}

// Write implements zapcore.WriteSyncer.
func (r *strangerReason) Write(line []byte) (int, error) {
	if !r.of.queue.writeStranger(line) {
		r.of.mu.Lock()
		r.of.suppress(r)
		r.of.mu.Unlock()
	}
	return len(line), nil
}

// Sync implements zapcore.WriteSyncer.
func (r *strangerReason) Sync() error { return nil }

// summarize writes the line with counts.
func (s *Strangers) summarize() {
	counts := s.takeCounts()
	if len(counts) > 0 {
		s.main.Info("requests that nobody authenticated: "+
			"these were counted and have no line of their own",
			zap.Duration("within", strangerSummary), zap.Object("by_reason", counts))
	}
}

func (s *Strangers) takeCounts() reasonCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.summing = false
	counts := reasonCounts{}
	for name, r := range s.reasons {
		if r.suppressed > 0 {
			counts[name] = r.suppressed
			r.suppressed = 0
		}
	}
	return counts
}

// SetRate sets the limit in lines a second. With 0 all lines are only counted.
func (s *Strangers) SetRate(lines int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shared == nil || s.shared.Limit() != rate.Limit(lines) {
		s.shared = rate.NewLimiter(rate.Limit(lines), strangerBurst*lines)
	}
}

func (s *Strangers) suppressedLines() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.suppressed
}

// reasonCounts are lines by reason.
type reasonCounts map[string]int64

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (c reasonCounts) MarshalLogObject(e zapcore.ObjectEncoder) error {
	for _, name := range slices.Sorted(maps.Keys(c)) {
		e.AddInt64(name, c[name])
	}
	return nil
}
