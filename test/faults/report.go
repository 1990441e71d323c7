package main

// What is printed: a line for each row as it ends, and the table for docs/resilience.md.

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	"xks-proxy/test/harness"
)

// Results stand between these lines of the document; what is around them is kept.
const (
	chaosBegins = "<!-- make chaos: begin -->\n"
	chaosEnds   = "<!-- make chaos: end -->\n"
	tableBegins = "<!-- make faults: begin -->\n"
	tableEnds   = "<!-- make faults: end -->\n"
)

// table has all times in milliseconds unless they say otherwise.
var table = harness.Table[*row]{
	{Name: "fault", Width: -36, Cell: func(r *row) string { return r.fault.name }},
	{Name: "HSM", Width: -7, Cell: func(r *row) string { return r.target }},
	{Name: "req/s", Width: 5, Cell: func(r *row) string { return fmt.Sprint(r.rate) }},
	{Name: "requests", Width: 8, Cell: func(r *row) string { return fmt.Sprint(r.requests) }},
	{Name: "failed", Width: 6, Cell: func(r *row) string { return fmt.Sprint(r.failed) }},
	{Name: ">200ms", Width: 6, Cell: func(r *row) string { return fmt.Sprint(r.slow) }},
	{Name: "wrong", Width: 5, Cell: func(r *row) string { return fmt.Sprint(r.wrong) }},
	{Name: "p50", Width: 6, Cell: func(r *row) string { return harness.Milliseconds(r.p50) }},
	{Name: "p99", Width: 6, Cell: func(r *row) string { return harness.Milliseconds(r.p99) }},
	{Name: "p99.9", Width: 6, Cell: func(r *row) string { return harness.Milliseconds(r.p999) }},
	{Name: "max", Width: 6, Cell: func(r *row) string { return harness.Milliseconds(r.max) }},
	{Name: "detected", Width: 8, Cell: func(r *row) string { return noticed(r.detected) }},
	{Name: "healed", Width: 8, Cell: func(r *row) string { return noticed(r.healed) }},
	{Name: "late", Width: 5, Cell: func(r *row) string { return harness.Milliseconds(r.late) }},
	{
		Name:  "calls/op",
		Width: 8,
		Cell:  func(r *row) string { return fmt.Sprintf("%.2f", r.callsFor) },
	},
	{Name: "", Width: -14, Cell: verdictOf},
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

func (r *row) print() {
	fmt.Println(table.Line(r))
	for _, line := range r.trouble {
		fmt.Println("  " + line)
	}
}

// writeTable puts the rows into the document.
func writeTable(path string, o *options, rows []*row) error {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"\nMeasured on %s with `make faults`: %d processors, shared with the client; %d connections; each fault held for %v; %s.\n\n",
		time.Now().
			UTC().
			Format("2 January 2006"),
		runtime.NumCPU(),
		o.connections,
		o.hold,
		summary(rows),
	)
	b.WriteString(table.Markdown(rows))
	b.WriteString("\n")
	return harness.WriteBetween(path, tableBegins, tableEnds, b.String())
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
	return fmt.Sprintf(
		"%d rows, %d requests, %d failed, %d slower than 200 ms, %d wrong answers; %d rows are not as they should be",
		len(rows),
		requests,
		failed,
		slow,
		wrong,
		missed,
	)
}
