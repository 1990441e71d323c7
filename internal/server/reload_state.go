package server

// What has become of the reloads: for the log, for monitoring, for `xks-proxy status`.

import (
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/config"
	"xks-proxy/internal/loosening"
)

// maxLoggedChanges bounds a line of the log.
const maxLoggedChanges = 30

// State is how the reloads stand. Any goroutine may ask.
func (r *reloader) State() api.ReloadState {
	r.mu.Lock()
	s := r.progress
	s.Loosening.Taken = maps.Clone(s.Loosening.Taken)
	s.Loosening.Loosens = append([]loosening.Loosening{}, s.Loosening.Loosens...)
	r.mu.Unlock()
	if g := r.fleet.Current.Load(); g != nil {
		s.Generation = g.Number
	}
	g := r.fleet.Shown()
	s.LoadedAt, s.WaitsForRestart = g.LoadedAt, append([]string{}, g.Waits...)
	return s
}

// reloadTry is who asked for a reload, when it began, and what it may loosen.
type reloadTry struct {
	by     string
	began  time.Time
	accept api.Acceptance
}

// note counts a reload and writes its line of the log.
func (r *reloader) note(try reloadTry, answer *api.ReloadAnswer, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Attempts++
	r.progress.LastAttempt, r.progress.LastBy, r.progress.LastError = try.began, try.by, ""
	noteLoosening(&r.progress.Loosening, try, answer, err)
	fields := []zap.Field{
		zap.String(
			"by",
			try.by,
		), zap.String("file", r.file), zap.Duration("took", time.Since(try.began)),
	}
	if err != nil {
		r.progress.Failures++
		r.progress.LastError = err.Error()
		r.log.Error(
			"the configuration was not reloaded: the old one stays in use",
			append(fields, zap.Error(err))...)
		return
	}
	// The line is logged at the old level or the new one, whichever shows it.
	level := r.level()
	r.log.Level.SetLevel(min(level, r.log.Level.Level()))
	defer r.log.Level.SetLevel(level)
	r.log.Strangers.SetRate(r.fleet.Current.Load().Config.Log.UnauthenticatedPerSecond)
	fields = append(
		fields,
		zap.Int("generation", answer.Generation),
		zap.Strings("changes", describeChanges(answer.Changes)),
	)
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
	level, err := zapcore.ParseLevel(r.fleet.Current.Load().Config.Log.Level)
	if err != nil {
		return r.log.Level.Level() // the schema lets nothing else in
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
func describeChanges(changes []config.Change) []string {
	lines := []string{}
	for i, c := range changes {
		if i == maxLoggedChanges {
			return append(lines, fmt.Sprintf("and %d more", len(changes)-i))
		}
		lines = append(lines, c.Sign()+" "+c.Key)
	}
	return lines
}
