package main

// `hsm list` for eyes: a table for each group that fits 120 columns, and below it
// what needs a sentence.

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/worker"
)

const listWidth = 120 // columns

// printHSMs prints all groups. now is for "12s ago".
func printHSMs(w io.Writer, status *adminStatus, now time.Time) error {
	var b bytes.Buffer
	if status.Starting {
		printStarting(&b, status.Processes, now)
	}
	for i, g := range status.Groups {
		if i > 0 {
			b.WriteString("\n")
		}
		printGroup(&b, g, status.Processes, now)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// printStarting is for a proxy that waits for its HSMs: it has processes, and no groups yet.
func printStarting(b *bytes.Buffer, processes map[string]processStatus, now time.Time) {
	b.WriteString("The proxy is starting: it waits for its HSMs, and serves nobody yet.\n\n")
	t := table{{"HSM", "PROCESS"}}
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		p := processes[name]
		t = append(t, []string{name, string(p.Phase) + " " + shortDuration(now.Sub(p.Since))})
	}
	t.print(b)
	for _, name := range slices.Sorted(maps.Keys(processes)) {
		printUnder(b, name, processNotes(name, processes[name], now))
	}
}

func printGroup(b *bytes.Buffer, g hsm.GroupStatus, processes map[string]processStatus, now time.Time) {
	fmt.Fprintf(b, "%s: %s\n\n", g.Name, groupFigures(g))
	t := table{{"HSM", "<PRIO", "SERVICE", "HEALTH", "PROCESS", "<RESTARTS", "<SESSIONS", "<IN FLIGHT", "<REQUESTS", "<FAULTS", "<P50/P99", "<KEYS"}}
	for _, m := range g.Members {
		t = append(t, memberRow(m, processes[m.HSM], now))
	}
	t.print(b)
	for _, m := range g.Members {
		printNotes(b, m, processes[m.HSM], now)
	}
	printFindings(b, g.Findings, now)
}

func groupFigures(g hsm.GroupStatus) string {
	keys := plural(g.Keys, "key")
	if g.CrossChecked > 0 {
		keys += ", " + plural(int(g.CrossChecked), "version") + " compared"
	}
	if g.CrossPending > 0 {
		keys += ", " + strconv.Itoa(g.CrossPending) + " to compare"
	}
	requests := plural(int(g.Hedges), "request") + " hedged"
	if g.HedgesDenied > 0 {
		requests += ", " + shortCount(g.HedgesDenied) + " more denied"
	}
	return keys + "; " + requests + ", " + shortCount(g.Retries) + " retried"
}

func memberRow(m hsm.MemberStatus, p processStatus, now time.Time) []string {
	process := string(p.Phase)
	if p.Phase == worker.Running {
		process = strconv.Itoa(p.PID)
	}
	latency := "-"
	if m.P50 > 0 {
		latency = shortDuration(m.P50) + "/" + shortDuration(m.P99)
	}
	return []string{
		m.HSM, strconv.Itoa(m.Priority), serviceSince(m, now), string(m.Health.Status), process,
		strconv.Itoa(p.Restarts), fmt.Sprintf("%d/%d/%d", p.Busy, p.Hung, p.Sessions), strconv.Itoa(m.InFlight),
		shortCount(m.Requests), shortCount(m.Faults), latency, strconv.Itoa(m.Keys),
	}
}

func serviceSince(m hsm.MemberStatus, now time.Time) string {
	if m.Since.IsZero() {
		return string(m.Service)
	}
	return string(m.Service) + " " + shortDuration(now.Sub(m.Since))
}

// printNotes says of an HSM what does not fit the table.
func printNotes(b *bytes.Buffer, m hsm.MemberStatus, p processStatus, now time.Time) {
	var notes []string
	if m.Reason != "" && m.Service != hsm.Drained { // the table says that
		state := string(m.Service)
		if m.Service == hsm.InService {
			state = string(m.Health.Status)
		}
		notes = append(notes, state+": "+m.Reason)
	}
	if m.KeptOutUntil.After(now) {
		notes = append(notes, "kept out until "+m.KeptOutUntil.In(now.Location()).Format(time.TimeOnly)+": it failed again soon after it came back")
	}
	if m.Unverified != "" {
		notes = append(notes, "it serves a key only after that key was compared with another HSM: "+m.Unverified)
	}
	if m.LastFault != "" {
		notes = append(notes, "last fault, "+shortDuration(now.Sub(m.LastFaultAt))+" ago: "+m.LastFault)
	}
	if saysSame(m.Reason, p.LastError, m.HSM) {
		p.LastError = ""
	}
	notes = append(notes, processNotes(m.HSM, p, now)...)
	notes = append(notes, unreadableNotes(m.Unreadable)...)
	if m.KeysListed.IsZero() {
		notes = append(notes, "its keys have not been listed since the start; what is shown is remembered")
	}
	printUnder(b, m.HSM, notes)
}

// processNotes say what is to know of a process. That one ended because a restart was asked for is no news
// once its successor runs.
func processNotes(name string, p processStatus, now time.Time) []string {
	var notes []string
	switch {
	case p.Phase == worker.Failed && p.RetryAt.IsZero():
		notes = append(notes, "its process is not started again by itself; mend the cause, then: xks-proxy hsm restart "+name)
	case p.Phase == worker.Failed:
		notes = append(notes, "its process is started again in "+shortDuration(max(0, p.RetryAt.Sub(now))))
	}
	if p.Overgrown > 0 {
		notes = append(notes, fmt.Sprintf("its process was replaced %s because of its memory "+
			"(memory_limit_mib); it has %d MiB now", plural(p.Overgrown, "time"), p.Memory>>20))
	}
	if p.LastError != "" && !(p.Phase == worker.Running && strings.Contains(p.LastError, restartReason)) {
		notes = append(notes, "its last process ended "+shortDuration(now.Sub(p.EndedAt))+" ago: "+p.LastError)
	}
	return notes
}

// saysSame reports whether the reason why an HSM is out has the story of its process in it.
func saysSame(reason, ended, name string) bool {
	_, detail, _ := strings.Cut(withoutName(ended, name), hsm.ErrUnavailable.Error()+": ")
	if detail == "" {
		detail = withoutName(ended, name)
	}
	return detail != "" && strings.Contains(withoutName(reason, name), detail)
}

// withoutName leaves out an HSM's own name where errors begin with it.
func withoutName(text, name string) string {
	text = strings.TrimPrefix(text, name+": ")
	return strings.ReplaceAll(text, ": "+name+": ", ": ")
}

// printUnder prints notes under the name of the HSM that they are about.
func printUnder(b *bytes.Buffer, name string, notes []string) {
	if len(notes) == 0 {
		return
	}
	fmt.Fprintf(b, "\n  %s\n", name)
	for _, note := range notes {
		printWrapped(b, "    ", withoutName(note, name))
	}
}

// table is a header and rows. A header that begins with < stands above numbers, which are right-aligned.
type table [][]string

func (t table) print(b *bytes.Buffer) {
	widths := make([]int, len(t[0]))
	right := make([]bool, len(t[0]))
	for i, name := range t[0] {
		t[0][i], right[i] = strings.CutPrefix(name, "<")
	}
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			line.WriteString("  " + cell)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
}

// printWrapped breaks lines between words; what follows the first line stands further in.
func printWrapped(b *bytes.Buffer, indent, s string) { printHanging(b, indent, indent+"  ", s) }

// printHanging begins the first line with first and the others with rest.
func printHanging(b *bytes.Buffer, first, rest, s string) { printWithin(b, listWidth, first, rest, s) }

// printWithin is printHanging for lines of any width.
func printWithin(b *bytes.Buffer, width int, first, rest, s string) {
	line, space := first, ""
	for word := range strings.FieldsSeq(s) {
		if space != "" && utf8.RuneCountInString(line+space+word) > width {
			b.WriteString(line + "\n")
			line, space = rest, ""
		}
		line += space + word
		space = " "
	}
	b.WriteString(line + "\n")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return shortCount(uint64(n)) + " " + what + "s"
}

// shortDuration is a time for eyes: 310µs, 2.1ms, 450ms, 1.9s, 12s, 3m20s, 5h12m, 4d3h.
func shortDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return twoUnits(d, day, "d", time.Hour, "h")
	case d >= time.Hour:
		return twoUnits(d, time.Hour, "h", time.Minute, "m")
	case d >= time.Minute:
		return twoUnits(d, time.Minute, "m", time.Second, "s")
	case d >= 10*time.Second:
		return d.Truncate(time.Second).String()
	case d >= time.Second:
		return d.Truncate(100 * time.Millisecond).String()
	case d >= 10*time.Millisecond:
		return d.Truncate(time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Truncate(100 * time.Microsecond).String()
	default:
		return d.Truncate(time.Microsecond).String()
	}
}

// twoUnits leaves the second out where it is 0.
func twoUnits(d, first time.Duration, firstName string, second time.Duration, secondName string) string {
	text := strconv.Itoa(int(d/first)) + firstName
	if rest := d % first / second; rest > 0 {
		text += strconv.Itoa(int(rest)) + secondName
	}
	return text
}

// shortCount is a count in six characters at most: 99999, 1204k, 31.5M.
func shortCount(n uint64) string {
	switch {
	case n < 100_000:
		return strconv.FormatUint(n, 10)
	case n < 10_000_000:
		return strconv.FormatUint(n/1000, 10) + "k"
	case n < 10_000_000_000:
		return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + "M"
	default:
		return strconv.FormatFloat(float64(n)/1e9, 'f', 1, 64) + "G"
	}
}
