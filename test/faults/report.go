package main

// What is printed: a line for each row as it ends, and the table for docs/resilience.md.

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"
)

// Results stand between these lines of the document; what is around them is kept.
const (
	chaosBegins = "<!-- make chaos: begin -->\n"
	chaosEnds   = "<!-- make chaos: end -->\n"
	tableBegins = "<!-- make faults: begin -->\n"
	tableEnds   = "<!-- make faults: end -->\n"
)

var columns = []struct {
	name  string
	width int // of the printed line; below 0: to the left
	cell  func(*row) string
}{
	{"fault", -36, func(r *row) string { return r.fault.name }},
	{"HSM", -7, func(r *row) string { return r.target }},
	{"req/s", 5, func(r *row) string { return fmt.Sprint(r.rate) }},
	{"requests", 8, func(r *row) string { return fmt.Sprint(r.requests) }},
	{"failed", 6, func(r *row) string { return fmt.Sprint(r.failed) }},
	{">200ms", 6, func(r *row) string { return fmt.Sprint(r.slow) }},
	{"wrong", 5, func(r *row) string { return fmt.Sprint(r.wrong) }},
	{"p50", 6, func(r *row) string { return milliseconds(r.p50) }},
	{"p99", 6, func(r *row) string { return milliseconds(r.p99) }},
	{"p99.9", 6, func(r *row) string { return milliseconds(r.p999) }},
	{"max", 6, func(r *row) string { return milliseconds(r.max) }},
	{"detected", 8, func(r *row) string { return noticed(r.detected) }},
	{"healed", 8, func(r *row) string { return noticed(r.healed) }},
	{"late", 5, func(r *row) string { return milliseconds(r.late) }},
	{"calls/op", 8, func(r *row) string { return fmt.Sprintf("%.2f", r.callsFor) }},
	{"", -14, verdictOf},
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

// noticed is "–" for what was never noticed, and need not be.
func noticed(d time.Duration) string {
	switch {
	case d < 0:
		return "–"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}

// verdictOf says so when the row had to be run again.
func verdictOf(r *row) string {
	if r.tries > 1 {
		return fmt.Sprintf("%s (run %d)", r.verdict(), r.tries)
	}
	return r.verdict()
}

func pad(text string, width int) string {
	blank := strings.Repeat(" ", max(0, max(width, -width)-utf8.RuneCountInString(text)))
	if width < 0 {
		return text + blank
	}
	return blank + text
}

// printHeader prints the names of the columns; all times are in milliseconds unless they say otherwise.
func printHeader() {
	var cells []string
	for _, c := range columns {
		cells = append(cells, pad(c.name, c.width))
	}
	fmt.Println(strings.TrimRight(strings.Join(cells, " "), " "))
}

func (r *row) print() {
	var cells []string
	for _, c := range columns {
		cells = append(cells, pad(c.cell(r), c.width))
	}
	fmt.Println(strings.TrimRight(strings.Join(cells, " "), " "))
	for _, line := range r.trouble {
		fmt.Println("  " + line)
	}
}

// writeTable puts the rows into the document.
func writeTable(path string, o *options, rows []*row) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMeasured on %s with `make faults`: %d processors, shared with the client; %d connections; each fault held for %v; %s.\n\n",
		time.Now().UTC().Format("2 January 2006"), runtime.NumCPU(), o.connections, o.hold, summary(rows))
	for i := range 2 {
		for _, c := range columns {
			cell := c.name
			if i == 1 {
				cell = "---"
				if c.width > 0 {
					cell = "---:"
				}
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	for _, r := range rows {
		for _, c := range columns {
			b.WriteString("| " + c.cell(r) + " ")
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n")
	return writeBetween(path, tableBegins, tableEnds, b.String())
}

// writeBetween replaces what stands between two lines of a document.
func writeBetween(path, begins, ends, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(document), begins)
	_, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		return fmt.Errorf("%s lacks the lines between which the results go: %s and %s", path, strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return os.WriteFile(path, []byte(before+begins+text+ends+after), 0o644)
}

// summary is the whole run in one line.
func summary(rows []*row) string {
	requests, failed, wrong, slow, missed := 0, 0, 0, 0, 0
	for _, r := range rows {
		requests += r.requests
		failed += r.failed
		wrong += r.wrong
		slow += r.slow
		if r.missed() {
			missed++
		}
	}
	return fmt.Sprintf("%d rows, %d requests, %d failed, %d slower than 200 ms, %d wrong answers; %d rows are not as they should be",
		len(rows), requests, failed, slow, wrong, missed)
}
