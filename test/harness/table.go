package harness

// Tables: a line on the terminal for each row as it ends, and Markdown between two lines of a
// document.

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// Column is one column of a table of rows of type R.
type Column[R any] struct {
	Name  string
	Width int // of the printed line; below 0: to the left
	Cell  func(R) string
}

// Table is its columns.
type Table[R any] []Column[R]

// Header is the printed line with the names of the columns.
func (t Table[R]) Header() string {
	return t.line(func(c Column[R]) string { return c.Name })
}

// Line is the printed line of a row.
func (t Table[R]) Line(row R) string {
	return t.line(func(c Column[R]) string { return c.Cell(row) })
}

func (t Table[R]) line(cell func(Column[R]) string) string {
	var cells []string
	for _, c := range t {
		text := cell(c)
		width := max(c.Width, -c.Width)
		blank := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
		if c.Width < 0 {
			cells = append(cells, text+blank)
		} else {
			cells = append(cells, blank+text)
		}
	}
	return strings.TrimRight(strings.Join(cells, " "), " ")
}

// Markdown is the table of all rows.
func (t Table[R]) Markdown(rows []R) string {
	var b strings.Builder
	write := func(cell func(Column[R]) string) {
		for _, c := range t {
			b.WriteString("| " + cell(c) + " ")
		}
		b.WriteString("|\n")
	}
	write(func(c Column[R]) string { return c.Name })
	write(func(c Column[R]) string {
		if c.Width > 0 {
			return "---:"
		}
		return "---"
	})
	for _, row := range rows {
		write(func(c Column[R]) string { return c.Cell(row) })
	}
	return b.String()
}

// WriteBetween replaces what stands between two lines of a document.
func WriteBetween(path, begins, ends, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(document), begins)
	_, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		return fmt.Errorf("%s lacks the lines between which the results go: %s and %s",
			path, strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return os.WriteFile(path, []byte(before+begins+text+ends+after), 0o644)
}

// Milliseconds prints a time as a number of milliseconds.
func Milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	if ms >= 100 {
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}
