package main

// What is printed: a line for each row as it ends, and the table for docs/security.md.

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// The table stands between these lines of the document; what is around them is kept.
const (
	tableBegins = "<!-- make attack: begin -->\n"
	tableEnds   = "<!-- make attack: end -->\n"
)

var columns = []struct {
	name  string
	width int // of the printed line; below 0: to the left
	cell  func(*row) string
}{
	{"attack", -30, func(r *row) string { return r.attack.name }},
	{"tried", 8, func(r *row) string { return fmt.Sprint(r.tally.Tried) }},
	{"accepted", 8, func(r *row) string { return fmt.Sprint(r.tally.Accepted) }},
	{"legal", 5, func(r *row) string { return fmt.Sprint(r.tally.Legal) }},
	{"seconds", 7, func(r *row) string { return fmt.Sprintf("%.1f", r.took.Seconds()) }},
	{"MiB", 12, func(r *row) string {
		return three(int(r.before.memory>>20), int(r.peak.memory>>20), int(r.after.memory>>20))
	}},
	{
		"threads", 9,
		func(r *row) string { return three(r.before.threads, r.peak.threads, r.after.threads) },
	},
	{
		"files", 12,
		func(r *row) string { return three(r.before.files, r.peak.files, r.after.files) },
	},
	{"back after", 10, func(r *row) string { return fmt.Sprintf("%.1f s", r.recovered.Seconds()) }},
	{"honest", 6, func(r *row) string { return fmt.Sprint(len(r.honest.took)) }},
	{"failed", 6, func(r *row) string { return fmt.Sprint(len(r.honest.failures)) }},
	{"p50", 6, func(r *row) string { return milliseconds(r.honest.percentile(50)) }},
	{"p99", 6, func(r *row) string { return milliseconds(r.honest.percentile(99)) }},
	{
		"new", 7,
		func(r *row) string {
			return fmt.Sprintf("%d/%d", r.newcomers.served.Load(), r.newcomers.came.Load())
		},
	},
	{"late", 5, func(r *row) string { return milliseconds(r.late) }},
	{"", -17, verdict},
}

func three(before, peak, after int) string { return fmt.Sprintf("%d/%d/%d", before, peak, after) }

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

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

func pad(text string, width int) string {
	blank := strings.Repeat(" ", max(0, max(width, -width)-utf8.RuneCountInString(text)))
	if width < 0 {
		return text + blank
	}
	return blank + text
}

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
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(document, []byte(tableBegins))
	_, after, ended := bytes.Cut(rest, []byte(tableEnds))
	if !found || !ended {
		return fmt.Errorf(
			"%s lacks the lines between which the table goes: %s and %s", path,
			strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds),
		)
	}
	var b bytes.Buffer
	b.Write(before)
	b.WriteString(tableBegins)
	fmt.Fprintf(
		&b,
		"\nMeasured on %s with `make attack`, seed %d: %d processors for attackers, honest "+
			"clients, proxy and HSMs together. %s.\n\n",
		time.Now().UTC().Format("2 January 2006"), o.seed, runtime.NumCPU(), summary(rows),
	)
	writeRows(&b, rows)
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
	b.WriteString("\n" + tableEnds)
	b.Write(after)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func writeRows(b *bytes.Buffer, rows []*row) {
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
}
