package main

// `status` for eyes: what is wrong first, everything within 120 columns.

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxStoresShown = 20 // without --all; of blocks as many
	maxCertsShown  = 5
	maxOwnerShown  = 24 // columns

	maxAttentionShown = 20
	factIndent        = 19 // two more than where facts begin
)

func printStatus(w io.Writer, s *proxyStatus, all bool, now time.Time) error {
	var b bytes.Buffer
	state := s.State
	if state != readyVerdict {
		state = "NOT READY: " + state
	}
	fmt.Fprintf(&b, "xks-proxy %s, up %s (since %s): %s\n", s.Version, shortDuration(now.Sub(s.Since)), s.Since.In(now.Location()).Format(time.DateTime), state)
	if len(s.Attention) > 0 {
		b.WriteString("\nNeeds attention:\n")
		for _, text := range s.Attention[:min(len(s.Attention), maxAttentionShown)] {
			printHanging(&b, "  - ", "    ", text)
		}
		if more := len(s.Attention) - maxAttentionShown; more > 0 {
			fmt.Fprintf(&b, "  and %d more: --json has all\n", more)
		}
	}
	b.WriteString("\n")
	s.printFacts(&b, now)
	s.printKeyStores(&b, all, now)
	if len(s.Blocks.Blocks) > 0 {
		fmt.Fprintf(&b, "\nBlocked by operators: %d\n\n", len(s.Blocks.Blocks))
		limit := maxStoresShown
		if all {
			limit = len(s.Blocks.Blocks)
		}
		list := s.Blocks
		list.Configured, list.Unsaved = nil, "" // said above
		writeBlocks(&b, list, now, limit)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// printFacts prints what takes a line each.
func (s *proxyStatus) printFacts(b *bytes.Buffer, now time.Time) {
	fact := func(name, text string) {
		printHanging(b, fmt.Sprintf("  %-14s ", name), strings.Repeat(" ", factIndent), text)
	}
	fact("Configuration", s.configFact(now))
	if s.Reload != nil && len(s.Reload.WaitsForRestart) > 0 {
		fact("", "waits for a restart: "+strings.Join(s.Reload.WaitsForRestart, ", "))
	}
	if s.Reload != nil && len(s.Reload.Loosening.Loosens) > 0 {
		fact("Loosens", s.Reload.Loosening.fact(now))
	}
	for _, g := range s.Groups {
		fact("HSMs", g.fact(now))
	}
	if len(s.Groups) == 0 {
		fact("HSMs", "the proxy is starting and waits for them; see xks-proxy hsm list")
	}
	for _, text := range confinementFacts(s.Confinement) {
		fact("Confinement", text)
	}
	certificates := slices.Clone(s.Certificates)
	slices.SortStableFunc(certificates, func(a, b certificateStatus) int {
		return cmp.Or(cmp.Compare(a.rank(now), b.rank(now)), a.NotAfter.Compare(b.NotAfter))
	})
	for _, c := range certificates[:min(len(certificates), maxCertsShown)] {
		fact("Certificate", c.fact(now))
	}
	if more := len(certificates) - maxCertsShown; more > 0 {
		fact("", fmt.Sprintf("and %d more, valid for longer; --json has all", more))
	}
	requests := strconv.Itoa(s.InFlight) + " in flight"
	if s.Connections != nil {
		requests += fmt.Sprintf("; %s open, %d refused since the start", plural(s.Connections.Open, "connection"), s.Connections.Refused)
	}
	fact("Requests", requests)
	if s.Log != nil && s.Log.fact() != "" {
		fact("Log", s.Log.fact())
	}
}

func (s *proxyStatus) configFact(now time.Time) string {
	text := s.ConfigFile
	r := s.Reload
	if r == nil {
		return text
	}
	text += fmt.Sprintf(", generation %d, loaded %s ago", r.Generation, shortDuration(now.Sub(r.LoadedAt)))
	if r.Attempts > 0 {
		text += fmt.Sprintf("; %s, %d failed", plural(r.Attempts, "reload"), r.Failures)
		result := "succeeded"
		if r.LastError != "" {
			result = "FAILED"
		}
		text += fmt.Sprintf("; the last %s ago by %s %s", shortDuration(now.Sub(r.LastAttempt)), r.LastBy, result)
	}
	return text
}

func (g *groupSummary) fact(now time.Time) string {
	text := fmt.Sprintf("%s: %d of %d in service", g.Name, g.InService, g.HSMs)
	for _, h := range g.Others {
		text += fmt.Sprintf("; %s %s for %s, %s", h.Name, h.Service, shortDuration(now.Sub(h.Since)), h.Health)
	}
	if g.Findings > 0 {
		text += "; their keys need attention"
	}
	return text
}

// rank puts certificates with problems first.
func (c *certificateStatus) rank(now time.Time) int {
	if c.attention(now) != "" {
		return 0
	}
	return 1
}

func (c *certificateStatus) fact(now time.Time) string {
	left := "EXPIRED"
	if c.NotAfter.After(now) {
		left = plural(int(c.NotAfter.Sub(now)/oneDay), "day") + " left"
	}
	text := fmt.Sprintf("%s: %s", someNames(c.Names), left)
	if c.KeyStore != "" {
		text += ", of key store " + c.KeyStore
	}
	if c.Problem != "" {
		text += "; " + c.Problem
	}
	return text
}

func (s *proxyStatus) printKeyStores(b *bytes.Buffer, all bool, now time.Time) {
	stores := slices.Clone(s.KeyStores)
	slices.SortStableFunc(stores, func(a, b keyStoreSummary) int { return cmp.Compare(b.trouble(), a.trouble()) })
	limit := maxStoresShown
	if all {
		limit = len(stores)
	}
	fmt.Fprintf(b, "\nKey stores: %d\n\n", len(stores))
	t := table{{"KEY STORE", "OWNER", "STATE", "<REQUESTS", "<FAILED", "<THROTTLED", "<IN FLIGHT", "<LAST REQUEST"}}
	for _, k := range stores[:min(len(stores), limit)] {
		state := "enabled"
		if k.Blocked != "" {
			state = "blocked by " + shortText(k.Blocked, maxByShown)
		}
		last := "-"
		if !k.LastRequest.IsZero() {
			last = shortDuration(max(0, now.Sub(k.LastRequest))) + " ago"
		}
		t = append(t, []string{shortText(k.Name, maxOwnerShown), shortText(orElse(k.Owner, "-"), maxOwnerShown), state,
			shortCount(k.Requests), shortCount(k.Failed), shortCount(k.Throttled), strconv.Itoa(k.InFlight), last})
	}
	t.print(b)
	if more := len(stores) - limit; more > 0 {
		fmt.Fprintf(b, "  and %d more, with less to look at: --all\n", more)
	}
}

// trouble orders key stores: what is blocked first, then the share of requests that did not succeed.
func (k *keyStoreSummary) trouble() float64 {
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
