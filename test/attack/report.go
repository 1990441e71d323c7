package main

// What is printed: a line for each row as it ends, and the table for docs/security.md.

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"xks-proxy/test/harness"
)

// The table stands between these lines of the document; what is around them is kept.
const (
	tableBegins = "<!-- make attack: begin -->\n"
	tableEnds   = "<!-- make attack: end -->\n"
)

var table = harness.Table[*row]{
	{Name: "attack", Width: -30, Cell: func(r *row) string { return r.attack.name }},
	{Name: "tried", Width: 8, Cell: func(r *row) string { return fmt.Sprint(r.tally.Tried) }},
	{Name: "accepted", Width: 8, Cell: func(r *row) string { return fmt.Sprint(r.tally.Accepted) }},
	{Name: "legal", Width: 5, Cell: func(r *row) string { return fmt.Sprint(r.tally.Legal) }},
	{
		Name:  "seconds",
		Width: 7,
		Cell:  func(r *row) string { return fmt.Sprintf("%.1f", r.took.Seconds()) },
	},
	{Name: "MiB", Width: 12, Cell: func(r *row) string {
		return three(int(r.before.Memory>>20), int(r.peak.Memory>>20), int(r.after.Memory>>20))
	}},
	{
		Name: "threads", Width: 9,
		Cell: func(r *row) string { return three(r.before.Threads, r.peak.Threads, r.after.Threads) },
	},
	{
		Name: "files", Width: 12,
		Cell: func(r *row) string { return three(r.before.Files, r.peak.Files, r.after.Files) },
	},
	{
		Name:  "back after",
		Width: 10,
		Cell:  func(r *row) string { return fmt.Sprintf("%.1f s", r.recovered.Seconds()) },
	},
	{Name: "honest", Width: 6, Cell: func(r *row) string { return fmt.Sprint(len(r.honest.took)) }},
	{
		Name:  "failed",
		Width: 6,
		Cell:  func(r *row) string { return fmt.Sprint(len(r.honest.failures)) },
	},
	{
		Name:  "p50",
		Width: 6,
		Cell:  func(r *row) string { return harness.Milliseconds(r.honest.percentile(50)) },
	},
	{
		Name:  "p99",
		Width: 6,
		Cell:  func(r *row) string { return harness.Milliseconds(r.honest.percentile(99)) },
	},
	{
		Name: "new", Width: 7,
		Cell: func(r *row) string { return fmt.Sprintf("%d/%d", r.newcomers.served.Load(), r.newcomers.came.Load()) },
	},
	{Name: "late", Width: 5, Cell: func(r *row) string { return harness.Milliseconds(r.late) }},
	{Name: "", Width: -17, Cell: verdict},
}

func three(before, peak, after int) string { return fmt.Sprintf("%d/%d/%d", before, peak, after) }

func verdict(r *row) string {
	text := "ok"
	switch {
	case len(r.wrong) > 0:
		text = "WRONG"
	case r.disturbed != "":
		text = "disturbed"
	case r.honest.percentile(99) > slowest && r.took > slowCounts:
		text = "slow"
	}
	if r.tries > 1 {
		text += fmt.Sprintf(" (run %d)", r.tries)
	}
	return text
}

func (r *row) print() {
	fmt.Println(table.Line(r))
	fmt.Println("    " + r.tally.answers())
	for _, line := range r.tally.Remarks {
		fmt.Println("    " + line)
	}
	if r.disturbed != "" {
		fmt.Println("    " + r.disturbed)
	}
	for _, line := range r.wrong {
		fmt.Println("  ! " + line)
	}
}

// summary is the whole run in one line.
func summary(rows []*row) string {
	tried, accepted, honest, failed, wrong := 0, 0, 0, 0, 0
	for _, r := range rows {
		tried += r.tally.Tried
		accepted += r.tally.Accepted
		honest += len(r.honest.took)
		failed += len(r.honest.failures)
		if len(r.wrong) > 0 {
			wrong++
		}
	}
	return fmt.Sprintf(
		"%d rows, %d tried, %d accepted; %d honest requests, %d failed; %d rows are not as they "+
			"should be",
		len(rows), tried, accepted, honest, failed, wrong,
	)
}

// writeTable puts the rows into the document, between the two lines.
func writeTable(path string, o *options, rows []*row, memory string) error {
	var b strings.Builder
	fmt.Fprintf(
		&b,
		"\nMeasured on %s with `make attack`, seed %d: %d processors for attackers, honest "+
			"clients, proxy and HSMs together. %s.\n\n",
		time.Now().UTC().Format("2 January 2006"), o.seed, runtime.NumCPU(), summary(rows),
	)
	b.WriteString(table.Markdown(rows))
	fmt.Fprintf(&b, "\nAfter the whole run, %s.\n\nAnswers, by attack:\n\n", memory)
	for _, r := range rows {
		fmt.Fprintf(&b, "- **%s**: %s\n", r.attack.name, r.tally.answers())
		for _, remark := range slices.Concat(r.tally.Remarks, r.wrong) {
			fmt.Fprintf(&b, "  - %s\n", remark)
		}
		if r.disturbed != "" {
			fmt.Fprintf(&b, "  - %s\n", r.disturbed)
		}
	}
	b.WriteString("\n")
	return harness.WriteBetween(path, tableBegins, tableEnds, b.String())
}
