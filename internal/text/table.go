package text

// Tables. The library aligns and wraps; which column gives way to which is decided here.

import (
	"fmt"
	"slices"
	"strings"

	pretty "github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

const (
	columnGap  = 2  // spaces before each column
	longWord   = 24 // columns; words up to here are never broken
	noteIndent = 6  // of a note below a row
)

// Table is rows below a header, each two spaces from the left edge and from each other.
type Table struct {
	heads []string
	right []bool // numbers: right-aligned
	rows  []tableRow
}

type tableRow struct {
	cells []string
	notes []string
}

// NewTable begins a table with these columns. One whose head begins with < holds numbers, which are
// right-aligned; the < is not printed.
func NewTable(heads ...string) *Table {
	t := &Table{right: make([]bool, len(heads))}
	for i, head := range heads {
		head, t.right[i] = strings.CutPrefix(head, "<")
		t.heads = append(t.heads, head)
	}
	return t
}

// Row appends a row, a cell for each column.
func (t *Table) Row(cells ...string) {
	if len(cells) != len(t.heads) {
		panic(fmt.Sprintf("a row of %d cells in a table of %d columns", len(cells), len(t.heads)))
	}
	t.rows = append(t.rows, tableRow{cells: cells})
}

// Note appends a sentence that is printed below the last row.
func (t *Table) Note(note string) {
	last := &t.rows[len(t.rows)-1]
	last.notes = append(last.notes, note)
}

// Table appends a table. Where it is too wide for the page, its widest columns are wrapped: between
// words if that is enough, else inside words longer than longWord. Columns that do not fit even so
// follow in a second table below, which repeats the first column. Nothing is ever left out.
func (p *Page) Table(t *Table) {
	w := t.widths(p.width)
	need := w.least
	if !w.oneTable(p.width) {
		need = w.usual
	}
	for from := 1; ; {
		shown := []int{0}
		used := columnGap + need[0]
		for from < len(t.heads) {
			used += columnGap + need[from]
			if p.width > 0 && used > p.width && len(shown) > 1 {
				break
			}
			shown = append(shown, from)
			from++
		}
		last := from == len(t.heads)
		t.print(p, shown, w.fit(shown, p.width), last)
		if last {
			return
		}
		p.WriteString("\n")
	}
}

// columnWidths are widths of each column.
type columnWidths struct {
	natural []int // of its longest cell
	word    []int // of its longest word, or half the page
	least   []int // of its longest word, or longWord
	usual   []int // of its longest cell, or longWord: for tables that continue below
}

// oneTable reports whether all columns fit beside each other.
func (w columnWidths) oneTable(width int) bool {
	used := 0
	for _, least := range w.least {
		used += columnGap + least
	}
	return used <= width
}

func (t *Table) widths(page int) columnWidths {
	n := len(t.heads)
	w := columnWidths{
		natural: make([]int, n),
		word:    make([]int, n),
		least:   make([]int, n),
		usual:   make([]int, n),
	}
	look := func(cells []string) {
		for i, cell := range cells {
			w.natural[i] = max(w.natural[i], text.StringWidth(cell))
			w.usual[i] = min(w.natural[i], longWord)
			for word := range strings.FieldsSeq(cell) {
				width := text.StringWidth(word)
				w.word[i] = max(w.word[i], min(width, page/2))
				w.least[i] = max(w.least[i], min(width, longWord))
			}
		}
	}
	look(t.heads)
	for _, row := range t.rows {
		look(row.cells)
	}
	return w
}

// fit makes the widest of the columns shown narrower until they fit. A width of 0 fits everything.
func (w columnWidths) fit(shown []int, width int) []int {
	fitted := slices.Clone(w.natural)
	if width == 0 {
		return fitted
	}
	over := -width
	for _, i := range shown {
		over += columnGap + fitted[i]
	}
	for _, least := range [][]int{w.word, w.least} {
		for ; over > 0; over-- {
			widest := -1
			for _, i := range shown {
				if fitted[i] > least[i] && (widest < 0 || fitted[i] > fitted[widest]) {
					widest = i
				}
			}
			if widest < 0 {
				break
			}
			fitted[widest]--
		}
	}
	return fitted
}

// print appends the columns shown, in these widths, and below each row its notes.
func (t *Table) print(p *Page, shown, widths []int, notes bool) {
	w := pretty.NewWriter()
	w.SetStyle(plainStyle)
	w.SuppressTrailingSpaces()
	var configs []pretty.ColumnConfig
	for place, i := range shown {
		c := pretty.ColumnConfig{Number: place + 1, WidthMin: widths[i], Align: text.AlignLeft}
		if t.right[i] {
			c.Align = text.AlignRight
		}
		c.AlignHeader = c.Align
		configs = append(configs, c)
	}
	w.SetColumnConfigs(configs)
	head, height := wrapped(t.heads, shown, widths)
	w.AppendHeader(head)
	heights := []int{height}
	for _, row := range t.rows {
		cells, height := wrapped(row.cells, shown, widths)
		w.AppendRow(cells)
		heights = append(heights, height)
	}
	lines := strings.Split(w.Render(), "\n")
	for n, height := range heights {
		p.WriteString(strings.Join(lines[:height], "\n") + "\n")
		lines = lines[height:]
		if n == 0 || !notes {
			continue
		}
		for _, note := range t.rows[n-1].notes {
			indent := strings.Repeat(" ", noteIndent)
			p.Paragraph(indent, indent+"  ", note)
		}
	}
}

// wrapped breaks the cells shown into lines, and counts the lines of the tallest.
func wrapped(cells []string, shown, widths []int) (pretty.Row, int) {
	var row pretty.Row
	height := 1
	for _, i := range shown {
		cell := cells[i]
		if text.StringWidth(cell) > widths[i] {
			cell = text.WrapSoft(cell, widths[i])
		}
		height = max(height, 1+strings.Count(cell, "\n"))
		row = append(row, cell)
	}
	return row, height
}

// plainStyle has no lines, no colours, and leaves capitals as they are.
var plainStyle = pretty.Style{
	Box: pretty.BoxStyle{PaddingLeft: strings.Repeat(" ", columnGap)},
}
