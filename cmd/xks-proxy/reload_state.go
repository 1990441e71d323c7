package main

// What has become of the reloads: for the log, for monitoring, for `xks-proxy status`.

import (
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// maxLoggedChanges bounds a line of the log.
const maxLoggedChanges = 30

// state is how the reloads stand. Any goroutine may ask.
func (r *reloader) state() reloadState {
	r.mu.Lock()
	s := r.progress
	s.Loosening.taken = maps.Clone(s.Loosening.taken)
	s.Loosening.Loosens = append([]loosening{}, s.Loosening.Loosens...)
	r.mu.Unlock()
	if g := r.fleet.current.Load(); g != nil {
		s.Generation = g.number
	}
	g := r.fleet.shown()
	s.LoadedAt, s.WaitsForRestart = g.loadedAt, append([]string{}, g.waits...)
	return s
}

// reloadTry is who asked for a reload, when it began, and what it may loosen.
type reloadTry struct {
	by     string
	began  time.Time
	accept acceptance
}

// note counts a reload and writes its line of the log.
func (r *reloader) note(try reloadTry, answer *reloadAnswer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Attempts++
	r.progress.LastAttempt, r.progress.LastBy, r.progress.LastError = try.began, try.by, ""
	noteLoosening(&r.progress.Loosening, try, answer, err)
	fields := []zap.Field{
		zap.String("by", try.by), zap.String("file", r.file), zap.Duration("took", time.Since(try.began)),
	}
	if err != nil {
		r.progress.Failures++
		r.progress.LastError = err.Error()
		r.log.Error("the configuration was not reloaded: the old one stays in use", append(fields, zap.Error(err))...)
		return
	}
	// The line is for whoever reads the log before and after.
	level := r.level()
	r.log.level.SetLevel(min(level, r.log.level.Level()))
	defer r.log.level.SetLevel(level)
	r.log.strangers.setRate(r.fleet.current.Load().config.Log.UnauthenticatedPerSecond)
	fields = append(fields, zap.Int("generation", answer.Generation), zap.Strings("changes", describeChanges(answer.Changes)))
	if len(answer.WaitsForRestart) > 0 {
		r.log.Warn("the configuration was reloaded; what waits for a restart is as it was",
			append(fields, zap.Strings("waits_for_restart", answer.WaitsForRestart))...)
	} else {
		r.log.Info("the configuration was reloaded", fields...)
	}
	logLoosenings(r.log.Logger, try, answer)
	r.tellWarnings(answer.Warnings)
}

// level is that of the configuration in use.
func (r *reloader) level() zapcore.Level {
	level, err := zapcore.ParseLevel(r.fleet.current.Load().config.Log.Level)
	if err != nil {
		return r.log.level.Level() // the schema lets nothing else in
	}
	return level
}

// tellWarnings logs those that the configuration before did not have.
func (r *reloader) tellWarnings(warnings []string) {
	now := map[string]bool{}
	for _, w := range warnings {
		if !r.known[w] && !now[w] {
			r.log.Warn("configuration", zap.String("warning", w))
		}
		now[w] = true
	}
	r.known = now
}

// describeChanges is for the log: "+ key_stores[a]".
func describeChanges(changes []configChange) []string {
	lines := []string{}
	for i, c := range changes {
		if i == maxLoggedChanges {
			return append(lines, fmt.Sprintf("and %d more", len(changes)-i))
		}
		lines = append(lines, c.sign()+" "+c.Key)
	}
	return lines
}
