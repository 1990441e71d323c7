// Package text writes what people read on a terminal: tables and paragraphs that fit its width,
// durations, counts, times, and the name that was probably meant. What goes to a pipe or a file is
// never wrapped and never cut, so that grep and awk find whole lines.
package text

import (
	"strconv"
	"time"
)

// Duration is a time span of at most two units: 310µs, 2.1ms, 450ms, 1.9s, 12s, 3m20s, 5h12m, 4d3h.
func Duration(d time.Duration) string {
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
func twoUnits(
	d, first time.Duration, firstName string, second time.Duration, secondName string,
) string {
	text := strconv.Itoa(int(d/first)) + firstName
	if rest := d % first / second; rest > 0 {
		text += strconv.Itoa(int(rest)) + secondName
	}
	return text
}

// Time is a moment in UTC, to the second: 2026-11-29T15:04:05Z.
func Time(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Count is a number in six characters at most: 99999, 1204k, 31.5M.
func Count(n uint64) string {
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

// Plural counts things: 1 key, 2 keys.
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Count(uint64(n)) + " " + what + "s"
}
