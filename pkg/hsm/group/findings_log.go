package group

// Log lines about findings: new ones and ended ones, with a limit on the number of lines.

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	loggedFindings  = 20              // lines about findings that are logged at once
	findingInterval = 3 * time.Second // for one more line
	summaryInterval = time.Minute     // for a line about those that got none
)

// findingLogLimits limits log lines about findings. Guarded by Group.mu.
type findingLogLimits struct {
	lines     *rate.Limiter
	summaries *rate.Limiter // of what did not get a line
	unlogged  int           // that got neither yet
}

func newFindingLogLimits() findingLogLimits {
	return findingLogLimits{
		lines:     rate.NewLimiter(rate.Every(findingInterval), loggedFindings),
		summaries: rate.NewLimiter(rate.Every(summaryInterval), 1),
	}
}

// findings returns the current findings, sorted by label, version and kind.
func (g *Group) findings() []catalogue.Finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]catalogue.Finding{}, g.parity.Findings...) // an empty list, in JSON too
}

// updateFindings updates the findings and logs the changes. Requires Group.mu.
func (g *Group) updateFindings() {
	before := g.parity.Findings
	if g.parity.UpdateFindings(g.catalogue.Load(), time.Now()) {
		g.listSoon()
	}
	g.logFindings(before, g.parity.Findings)
}

// listSoon lists the HSMs again, so that differences of timing disappear. HSMs whose listing is
// expensive wait for their turn.
func (g *Group) listSoon() {
	for _, m := range g.members {
		if g.parity.QuickToList&m.bit != 0 {
			wake(m.refresh)
		}
	}
}

// listingDone updates the findings after a listing that began at a time, and possibly failed.
// Requires Group.mu.
func (g *Group) listingDone(m *member, began time.Time, err error) {
	m.listing = listing{began, err}
	if g.parity.RecordListing(m.bit, time.Since(began), err) {
		g.rebuild() // for the findings to say what is old knowledge
	}
	waiting, settled := g.parity.ListingDone(m.bit, began, err)
	if waiting && g.parity.QuickToList&m.bit != 0 {
		wake(m.refresh)
	}
	if settled {
		g.updateFindings()
	}
}

// logFindings logs new and ended findings, one line for the same problem with many keys.
func (g *Group) logFindings(before, now []catalogue.Finding) {
	if len(before)+len(now) == 0 {
		return
	}
	started := catalogue.Except(catalogue.IndexFindings(before), now)
	ended := catalogue.Except(catalogue.IndexFindings(now), before)
	for _, f := range catalogue.GroupFindings(started) {
		g.logFinding(
			levels[f.Kind.Severity()],
			headline(f.Kind, "the HSMs' keys differ", "a key needs attention"),
			f,
		)
	}
	for _, f := range catalogue.GroupFindings(ended) {
		g.logFinding(
			zapcore.InfoLevel,
			headline(f.Kind, "the HSMs' keys no longer differ", "a key no longer needs attention"),
			f,
		)
	}
	if unsaid := g.findingLimits.unlogged; unsaid > 0 && g.findingLimits.summaries.Allow() {
		g.findingLimits.unlogged = 0
		g.log.Warn(
			"more key findings than are logged one by one; `xks-proxy hsm list` shows all of them",
			zap.Int("not_logged", unsaid),
			zap.Int("findings", len(now)),
		)
	}
}

var levels = map[catalogue.Severity]zapcore.Level{
	catalogue.Minor:   zapcore.InfoLevel,
	catalogue.Warning: zapcore.WarnLevel,
	catalogue.Severe:  zapcore.ErrorLevel,
}

func headline(kind catalogue.FindingKind, differs, alone string) string {
	if kind.IsDifference() {
		return differs
	}
	return alone
}

func (g *Group) logFinding(level zapcore.Level, message string, f catalogue.FindingGroup) {
	if !g.findingLimits.lines.Allow() {
		g.findingLimits.unlogged += f.Count()
		return
	}
	fields := []zap.Field{
		zap.String("finding", string(f.Kind)),
		zap.String("label", hsm.ShowLabel(f.Label)),
		zap.Uint32(
			"version",
			f.Version,
		),
		zap.Strings("hsms", f.HSMs),
		zap.String("detail", f.Detail),
	}
	if f.Count() > 1 {
		fields = append(fields, zap.Int("keys", f.Count()), zap.Strings("labels", f.Labels()))
	}
	g.log.Log(level, message, fields...)
}
