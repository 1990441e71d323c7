package cli

// `hsm list` for eyes: a table for each group, and below it what needs a sentence.

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// printHSMs prints all groups. now is for "12s ago".
func printHSMs(p *text.Page, status *api.List, now time.Time) {
	if status.Starting {
		printStarting(p, status.Processes, now)
	}
	for i, g := range status.Groups {
		if i > 0 {
			p.WriteString("\n")
		}
		printGroup(p, g, status.Processes, now)
	}
}

// printStarting is for a proxy that waits for its HSMs: it has processes, and no groups yet.
func printStarting(p *text.Page, processes map[string]api.Process, now time.Time) {
	p.Paragraph("", "", "The proxy is starting: it waits for its HSMs and serves nobody yet.")
	p.WriteString("\n")
	t := text.NewTable("HSM", "PROCESS")
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		process := processes[name]
		t.Row(name, string(process.Phase)+" "+text.Duration(now.Sub(process.Since)))
	}
	p.Table(t)
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		printUnder(p, name, processNotes(name, processes[name], now))
	}
}

func printGroup(
	p *text.Page, g status.Group, processes map[string]api.Process, now time.Time,
) {
	p.Paragraph("", "  ", g.Name+": "+groupFigures(g))
	p.WriteString("\n")
	t := text.NewTable("HSM", "<PRIO", "SERVICE", "HEALTH", "PROCESS", "<RESTARTS", "<SESSIONS",
		"<IN FLIGHT", "<REQUESTS", "<FAULTS", "<P50/P99", "<KEYS")
	for _, m := range g.Members {
		t.Row(memberRow(m, processes[m.HSM], now)...)
	}
	p.Table(t)
	for _, m := range g.Members {
		printNotes(p, m, processes[m.HSM], now)
	}
	printFindings(p, g.Findings, now)
}

func groupFigures(g status.Group) string {
	keys := text.Plural(g.Keys, "key")
	if g.CrossChecked > 0 {
		keys += ", " + text.Plural(int(g.CrossChecked), "version") + " compared"
	}
	if g.CrossPending > 0 {
		keys += ", " + strconv.Itoa(g.CrossPending) + " to compare"
	}
	requests := text.Plural(int(g.Hedges), "request") + " hedged"
	if g.HedgesDenied > 0 {
		requests += ", " + text.Count(g.HedgesDenied) + " more denied"
	}
	return keys + "; " + requests + ", " + text.Count(g.Retries) + " retried"
}

func memberRow(m status.Member, p api.Process, now time.Time) []string {
	process := string(p.Phase)
	if p.Phase == worker.Running {
		process = strconv.Itoa(p.PID)
	}
	latency := "-"
	if m.P50 > 0 {
		latency = text.Duration(time.Duration(m.P50)) + "/" + text.Duration(time.Duration(m.P99))
	}
	return []string{
		m.HSM, strconv.Itoa(m.Priority), serviceSince(m, now), string(m.Health.Status), process,
		strconv.Itoa(
			p.Restarts,
		), fmt.Sprintf("%d/%d/%d", p.Busy, p.Hung, p.Sessions), strconv.Itoa(m.InFlight),
		text.Count(m.Requests), text.Count(m.Faults), latency, strconv.Itoa(m.Keys),
	}
}

func serviceSince(m status.Member, now time.Time) string {
	if m.Since.IsZero() {
		return string(m.Service)
	}
	return string(m.Service) + " " + text.Duration(now.Sub(m.Since))
}

// printNotes says of an HSM what does not fit the table.
func printNotes(page *text.Page, m status.Member, p api.Process, now time.Time) {
	var notes []string
	if m.Reason != "" && m.Service != status.Drained { // the table says that
		state := string(m.Service)
		if m.Service == status.InService {
			state = string(m.Health.Status)
		}
		notes = append(notes, state+": "+m.Reason)
	}
	if m.KeptOutUntil.After(now) {
		notes = append(
			notes,
			"kept out until "+text.Time(m.KeptOutUntil)+": it failed again soon after it came back",
		)
	}
	if m.Unverified != "" {
		notes = append(
			notes,
			"it serves a key only after that key was compared with another HSM: "+m.Unverified,
		)
	}
	if m.LastFault != "" {
		notes = append(
			notes,
			"last fault, "+text.Duration(now.Sub(m.LastFaultAt))+" ago: "+m.LastFault,
		)
	}
	if saysSame(m.Reason, p.LastError, m.HSM) {
		p.LastError = ""
	}
	notes = append(notes, processNotes(m.HSM, p, now)...)
	notes = append(notes, unreadableNotes(m.Unreadable)...)
	if m.KeysListed.IsZero() {
		notes = append(
			notes,
			"its keys have not been listed since the start; what is shown is remembered",
		)
	}
	printUnder(page, m.HSM, notes)
}

// processNotes are what an operator needs to know of a process. One that ended for a requested
// restart is not news
// once its successor runs.
func processNotes(name string, p api.Process, now time.Time) []string {
	var notes []string
	switch {
	case p.Phase == worker.Failed && p.RetryAt.IsZero():
		notes = append(
			notes,
			"its process is not restarted automatically; fix the cause, then: xks-proxy hsm restart "+name,
		)
	case p.Phase == worker.Failed:
		notes = append(
			notes,
			"its process is started again in "+text.Duration(max(0, p.RetryAt.Sub(now))),
		)
	}
	if p.Overgrown > 0 {
		notes = append(notes, fmt.Sprintf("its process was replaced %s because of its memory "+
			"(memory_limit_mib); it has %d MiB now", text.Plural(p.Overgrown, "time"), p.Memory>>20))
	}
	if p.LastError != "" &&
		!(p.Phase == worker.Running && strings.Contains(p.LastError, admin.RestartReason)) {
		notes = append(
			notes,
			"its last process ended "+text.Duration(now.Sub(p.EndedAt))+" ago: "+p.LastError,
		)
	}
	return notes
}

// saysSame reports whether the reason why an HSM is out has the story of its process in it.
func saysSame(reason, ended, name string) bool {
	_, detail, _ := strings.Cut(api.WithoutName(ended, name), hsm.ErrUnavailable.Error()+": ")
	if detail == "" {
		detail = api.WithoutName(ended, name)
	}
	return detail != "" && strings.Contains(api.WithoutName(reason, name), detail)
}

// printUnder prints notes under the name of the HSM that they are about.
func printUnder(p *text.Page, name string, notes []string) {
	if len(notes) == 0 {
		return
	}
	p.Printf("\n  %s\n", name)
	for _, note := range notes {
		p.Paragraph("    ", "      ", api.WithoutName(note, name))
	}
}
