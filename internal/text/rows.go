package text

// Small things that are printed: rows of names and values, quoted words, latencies.

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Row is one line of what PrintRows prints: a name and its value.
type Row [2]string

// PrintRows prints rows with their values below each other.
func PrintRows(w io.Writer, rows []Row) {
	width := 11
	for _, r := range rows {
		width = max(width, len(r[0]))
	}
	for _, r := range rows {
		fmt.Fprintf(w, "  %-*s  %s\n", width, r[0], r[1])
	}
}

// Milliseconds is a latency with a tenth of a millisecond, such as "1.4 ms".
func Milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// ShellQuote makes one word of s for a POSIX shell, with quotes only where it needs them.
func ShellQuote(s string) string {
	const plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+:@%,="
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
