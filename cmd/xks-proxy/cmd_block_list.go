package main

// The list of what is blocked, for eyes: 120 columns.

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	maxWhatShown  = 50 // columns
	maxByShown    = 20
	blockedWidths = 2 + 2 + 2 + 2 // between the columns
)

func printBlocks(w io.Writer, list blockList, now time.Time) error {
	var b bytes.Buffer
	writeBlocks(&b, list, now, len(list.Blocks)+len(list.Configured))
	_, err := w.Write(b.Bytes())
	return err
}

// writeBlocks prints at most limit rows.
func writeBlocks(b *bytes.Buffer, list blockList, now time.Time, limit int) {
	if len(list.Blocks)+len(list.Configured) == 0 {
		b.WriteString("Nothing is blocked.\n")
		return
	}
	var rows [][]string
	for _, one := range list.Blocks {
		since := one.Since.Format("2006-01-02 15:04Z") + " (" + shortDuration(now.Sub(one.Since).Truncate(time.Second)) + ")"
		rows = append(rows, []string{one.String(), since, one.By, one.Reason})
	}
	for _, one := range list.Configured {
		place, _, _ := strings.Cut(one.Place, ": ")
		rows = append(rows, []string{blockTarget{KeyStore: one.KeyStore}.String(), "-", configurationBlocks, place})
	}
	more := len(rows) - limit
	rows = rows[:min(len(rows), limit)]
	t := table{{"WHAT", "SINCE", "BY", "REASON"}}
	left := listWidth - blockedWidths // for the last column
	for i, most := range []int{maxWhatShown, listWidth, maxByShown} {
		width := len(t[0][i])
		for _, row := range rows {
			row[i] = shortText(row[i], most)
			width = max(width, utf8.RuneCountInString(row[i]))
		}
		left -= width
	}
	for _, row := range rows {
		row[3] = shortText(row[3], left)
		t = append(t, row)
	}
	t.print(b)
	if more > 0 {
		fmt.Fprintf(b, "  and %d more: xks-proxy block list\n", more)
	}
	switch {
	case list.Unsaved != "":
		fmt.Fprintf(b, "\nThis will not survive a restart as it is: %s\n", sentence(list.Unsaved))
	case !list.Survive && len(list.Blocks) > 0:
		b.WriteString("\nBlocks of operators will not survive a restart: state_directory is \"\".\n")
	}
}

// shortText cuts a text to so many columns.
func shortText(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	return string([]rune(s)[:columns-1]) + "…"
}
