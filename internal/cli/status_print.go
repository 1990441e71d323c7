package cli

// `status` for eyes: what is wrong first.

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/text"
)

const (
	maxStoresShown = 20 // without --all; of blocks as many
	maxCertsShown  = 5

	maxAttentionShown = 20
	attentionIndent   = 12 // where the sentences begin
	factIndent        = 19 // two more than where facts begin
)

func printStatus(p *text.Page, s *api.Status, all bool, now time.Time) {
	state := s.State
	if state != api.ReadyVerdict {
		state = "NOT READY: " + state
	}
	p.Paragraph("", "  ", fmt.Sprintf("xks-proxy %s, up %s (since %s): %s",
		s.Version, text.Duration(now.Sub(s.Since)), text.Time(s.Since), state))
	if len(s.Attention) > 0 {
		p.WriteString("\nNeeds attention:\n")
		for _, what := range s.Attention[:min(len(s.Attention), maxAttentionShown)] {
			p.Paragraph(
				fmt.Sprintf("  %-8s  ", severityLabel(what.Severity)),
				strings.Repeat(" ", attentionIndent),
				what.Text,
			)
		}
		if more := len(s.Attention) - maxAttentionShown; more > 0 {
			p.Printf("  and %d more: --json has all\n", more)
		}
	}
	p.WriteString("\n")
	printFacts(p, s, now)
	printKeyStores(p, s.KeyStores, all, now)
	if len(s.Blocks.Blocks) > 0 {
		p.Printf("\nBlocked by operators: %d\n\n", len(s.Blocks.Blocks))
		limit := maxStoresShown
		if all {
			limit = len(s.Blocks.Blocks)
		}
		list := s.Blocks
		list.Configured, list.Unsaved = nil, "" // said above
		writeBlocks(p, list, now, limit)
	}
}

// certificateRank puts certificates with problems first.
func certificateRank(c *certs.Status, now time.Time) int {
	if c.Urgency(now) != certs.NotUrgent || c.Problem != "" {
		return 0
	}
	return 1
}

func certificateFact(c *certs.Status, now time.Time) string {
	left := "EXPIRED"
	if c.NotAfter.After(now) {
		left = certs.TimeLeft(c.NotAfter.Sub(now)) + " left"
	}
	said := fmt.Sprintf("%s: %s", text.Some(c.Names, api.NamesShown), left)
	if c.KeyStore != "" {
		said += ", of key store " + c.KeyStore
	}
	if c.Problem != "" {
		said += "; " + c.Problem
	}
	return said
}

// looseningFact is the line of status about reloads.
func looseningFact(s api.LooseningState, now time.Time) string {
	accepted := "not accepted"
	if s.Accepted {
		accepted = "accepted"
	}
	return fmt.Sprintf("%s, %s ago by %s, %s: %s", text.Plural(len(s.Loosens), "change"),
		text.Duration(now.Sub(s.At)), s.By, accepted, api.SomeLoosenings(s.Loosens))
}

// severityLabel is the severity; critical is in capitals.
func severityLabel(s api.Severity) string {
	if s == api.Critical {
		return "CRITICAL"
	}
	return string(s)
}

// printFacts prints what takes a line each.
func printFacts(p *text.Page, s *api.Status, now time.Time) {
	fact := func(name, what string) {
		p.Paragraph(fmt.Sprintf("  %-14s ", name), strings.Repeat(" ", factIndent), what)
	}
	fact("Configuration", configFact(s, now))
	if s.Reload != nil && len(s.Reload.WaitsForRestart) > 0 {
		fact("", "waits for a restart: "+strings.Join(s.Reload.WaitsForRestart, ", "))
	}
	if s.Reload != nil && len(s.Reload.Loosening.Loosens) > 0 {
		fact("Loosens", looseningFact(s.Reload.Loosening, now))
	}
	for _, g := range s.Groups {
		fact("HSMs", groupFact(&g, now))
	}
	if len(s.Groups) == 0 {
		fact("HSMs", "the proxy is starting and waits for them; see xks-proxy hsm list")
	}
	for _, text := range fleet.ConfinementFacts(s.Confinement) {
		fact("Confinement", text)
	}
	certificates := slices.Clone(s.Certificates)
	slices.SortStableFunc(certificates, func(a, b certs.Status) int {
		return cmp.Or(
			cmp.Compare(certificateRank(&a, now), certificateRank(&b, now)),
			a.NotAfter.Compare(b.NotAfter),
		)
	})
	for _, c := range certificates[:min(len(certificates), maxCertsShown)] {
		name := "Certificate"
		if c.Use == certs.UseClientCA {
			name = "Client CA"
		}
		fact(name, certificateFact(&c, now))
	}
	if more := len(certificates) - maxCertsShown; more > 0 {
		fact("", fmt.Sprintf("and %d more, valid for longer; --json has all", more))
	}
	requests := strconv.Itoa(s.InFlight) + " in flight"
	if s.Connections != nil {
		requests += fmt.Sprintf(
			"; %s open, %d refused since the start",
			text.Plural(s.Connections.Open, "connection"),
			s.Connections.Refused,
		)
	}
	fact("Requests", requests)
	if s.Log != nil && logFact(s.Log) != "" {
		fact("Log", logFact(s.Log))
	}
}

func configFact(s *api.Status, now time.Time) string {
	said := s.ConfigFile
	r := s.Reload
	if r == nil {
		return said
	}
	said += fmt.Sprintf(
		", generation %d, loaded %s ago",
		r.Generation,
		text.Duration(now.Sub(r.LoadedAt)),
	)
	if r.Attempts > 0 {
		said += fmt.Sprintf("; %s, %d failed", text.Plural(r.Attempts, "reload"), r.Failures)
		result := "succeeded"
		if r.LastError != "" {
			result = "FAILED"
		}
		said += fmt.Sprintf(
			"; the last %s ago by %s %s",
			text.Duration(now.Sub(r.LastAttempt)),
			r.LastBy,
			result,
		)
	}
	return said
}

func groupFact(g *api.GroupSummary, now time.Time) string {
	said := fmt.Sprintf("%s: %d of %d in service", g.Name, g.InService, g.HSMs)
	for _, h := range g.Others {
		said += fmt.Sprintf(
			"; %s %s for %s, %s",
			h.Name,
			h.Service,
			text.Duration(now.Sub(h.Since)),
			h.Health,
		)
	}
	if g.Findings > 0 {
		said += "; their keys need attention"
	}
	return said
}

func printKeyStores(p *text.Page, list []api.KeyStoreSummary, all bool, now time.Time) {
	stores := slices.Clone(list)
	slices.SortStableFunc(
		stores,
		func(a, b api.KeyStoreSummary) int { return cmp.Compare(storeTrouble(&b), storeTrouble(&a)) },
	)
	limit := maxStoresShown
	if all {
		limit = len(stores)
	}
	p.Printf("\nKey stores: %d\n\n", len(stores))
	t := text.NewTable(
		"KEY STORE",
		"OWNER",
		"STATE",
		"<REQUESTS",
		"<FAILED",
		"<THROTTLED",
		"<IN FLIGHT",
		"<LAST REQUEST",
	)
	for _, k := range stores[:min(len(stores), limit)] {
		state := "enabled"
		if k.Blocked != "" {
			state = "blocked by " + k.Blocked
		}
		last := "-"
		if !k.LastRequest.IsZero() {
			last = text.Duration(max(0, now.Sub(k.LastRequest))) + " ago"
		}
		t.Row(k.Name, cmp.Or(k.Owner, "-"), state, text.Count(k.Requests), text.Count(k.Failed),
			text.Count(k.Throttled), strconv.Itoa(k.InFlight), last)
	}
	p.Table(t)
	if more := len(stores) - limit; more > 0 {
		p.Printf("  and %d more, with less to look at: --all\n", more)
	}
}

// storeTrouble orders key stores: those that are blocked first, then by the share of requests that
// did not succeed.
func storeTrouble(k *api.KeyStoreSummary) float64 {
	const blockedFirst = 2
	share := 0.0
	if k.Requests > 0 {
		share = float64(k.Failed+k.Throttled) / float64(k.Requests)
	}
	if k.Blocked != "" {
		return blockedFirst + share
	}
	return share
}

// logFact is one line of the status; "" if there is nothing to report.
func logFact(s *logging.State) string {
	switch {
	case s.Lost > 0 && s.Suppressed > 0:
		return fmt.Sprintf(
			"%s lost, %s about unauthenticated requests only counted, since the start",
			text.Plural(int(s.Lost), "line"), text.Count(uint64(s.Suppressed)))
	case s.Lost > 0:
		return text.Plural(int(s.Lost), "line") + " lost since the start"
	case s.Suppressed > 0:
		return fmt.Sprintf("%s about unauthenticated requests only counted since the start",
			text.Plural(int(s.Suppressed), "line"))
	}
	return ""
}
