package group

// What operators hear of the differences between the HSMs' keys: what is new and what is over, in
// not so many lines that the log becomes unreadable.

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	loggedFindings = 20              // lines about findings that are logged at once
	findingsEvery  = 3 * time.Second // for one more line
	summaryEvery   = time.Minute     // for a line about those that got none
)

// newsLimits bound what the log says of findings. Guarded by Group.mu.
type newsLimits struct {
	lines     *rate.Limiter
	summaries *rate.Limiter // of what did not get a line
	unsaid    int           // that got neither yet
}

func newNewsLimits() newsLimits {
	return newsLimits{
		lines:     rate.NewLimiter(rate.Every(findingsEvery), loggedFindings),
		summaries: rate.NewLimiter(rate.Every(summaryEvery), 1),
	}
}

// findings are the differences that stand now, sorted by label, version and kind.
func (g *Group) findings() []catalogue.Finding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]catalogue.Finding{}, g.parity.Standing...) // an empty list, in JSON too
}

// settle decides which findings stand, and logs those that are new or over. Group.mu is held.
func (g *Group) settle() {
	before := g.parity.Standing
	if g.parity.Settle(g.catalogue.Load(), time.Now()) {
		g.listSoon()
	}
	g.tell(before, g.parity.Standing)
}

// listSoon has the HSMs listed again, so that what is only a matter of time is known for that. Those
// for which a listing is much work are left to their turn.
func (g *Group) listSoon() {
	for _, m := range g.members {
		if g.parity.Quick&m.bit != 0 {
			nudge(m.refresh)
		}
	}
}

// listingDone is what a listing that began at a moment, and its failure, mean for differences. Group.mu is held.
func (g *Group) listingDone(m *member, began time.Time, err error) {
	m.listing = listing{began, err}
	if g.parity.TookPart(m.bit, time.Since(began), err) {
		g.rebuild() // for the findings to say what is old knowledge
	}
	waiting, settled := g.parity.Listed(m.bit, began, err)
	if waiting && g.parity.Quick&m.bit != 0 {
		nudge(m.refresh)
	}
	if settled {
		g.settle()
	}
}

// tell logs what is new and what is over: what is the same for many keys in one line, and not so many
// lines that the log becomes unreadable.
func (g *Group) tell(before, now []catalogue.Finding) {
	if len(before)+len(now) == 0 {
		return
	}
	for _, f := range catalogue.GroupFindings(catalogue.NewSince(catalogue.ByID(before), now)) {
		g.tellOne(levels[f.Kind.Severity()], headline(f.Kind, "the HSMs' keys differ", "a key needs attention"), f)
	}
	for _, f := range catalogue.GroupFindings(catalogue.NewSince(catalogue.ByID(now), before)) {
		g.tellOne(zapcore.InfoLevel, headline(f.Kind, "the HSMs' keys no longer differ", "a key no longer needs attention"), f)
	}
	if unsaid := g.news.unsaid; unsaid > 0 && g.news.summaries.Allow() {
		g.news.unsaid = 0
		g.log.Warn("more has changed in how the HSMs' keys differ than is logged one by one; `xks-proxy hsm list` shows what stands",
			zap.Int("not_logged", unsaid), zap.Int("findings", len(now)))
	}
}

var levels = map[catalogue.Severity]zapcore.Level{catalogue.Minor: zapcore.InfoLevel, catalogue.Warning: zapcore.WarnLevel, catalogue.Severe: zapcore.ErrorLevel}

func headline(kind catalogue.FindingKind, differs, alone string) string {
	return catalogue.Choose(kind.Differs(), differs, alone)
}

func (g *Group) tellOne(level zapcore.Level, message string, f catalogue.FindingGroup) {
	if !g.news.lines.Allow() {
		g.news.unsaid += f.Len()
		return
	}
	fields := []zap.Field{zap.String("finding", string(f.Kind)), zap.String("label", hsm.ShowLabel(f.Label)),
		zap.Uint32("version", f.Version), zap.Strings("hsms", f.HSMs), zap.String("detail", f.Detail)}
	if f.Len() > 1 {
		fields = append(fields, zap.Int("keys", f.Len()), zap.Strings("labels", f.Labels()))
	}
	g.log.Log(level, message, fields...)
}
