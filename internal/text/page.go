package text

// A page: output that knows how wide it may be.

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	pretty "github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

const (
	usualWidth    = 80 // columns of a terminal that does not report its width
	smallestWidth = 20 // columns; what is narrower is taken for this
)

// Width is the number of columns that output to w may have: those of the terminal, or COLUMNS if
// that is set. It is 0 if w is not a terminal: then nothing is wrapped.
func Width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0
	}
	width, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err == nil && width > 0 {
		return max(width, smallestWidth)
	}
	width, _, err = term.GetSize(int(file.Fd()))
	if err != nil || width <= 0 {
		return usualWidth
	}
	return max(width, smallestWidth)
}

// Page collects output. Its width is in columns; 0 is any number.
type Page struct {
	bytes.Buffer
	width int
}

// NewPage is an empty page that is width columns wide; 0 is any number. See Width.
func NewPage(width int) *Page { return &Page{width: width} }

// Printf appends text as it is.
func (p *Page) Printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// Paragraph appends s, broken between words. The first line begins with first, the others with
// rest. A word longer than a line is left whole, so that paths and commands can be copied.
func (p *Page) Paragraph(first, rest, s string) {
	line, width := first, pretty.StringWidth(first)
	space := ""
	for word := range strings.FieldsSeq(s) {
		columns := pretty.StringWidth(word)
		if p.width > 0 && space != "" && width+len(space)+columns > p.width {
			p.WriteString(line + "\n")
			line, width, space = rest, pretty.StringWidth(rest), ""
		}
		line += space + word
		width += len(space) + columns
		space = " "
	}
	p.WriteString(line + "\n")
}

// Print writes what print puts on a page as wide as w.
func Print(w io.Writer, print func(*Page)) error {
	p := NewPage(Width(w))
	print(p)
	_, err := p.WriteTo(w)
	return err
}

// Facts appends a line for each pair of a name and a value, the values below each other.
func (p *Page) Facts(facts [][2]string) {
	widest := 0
	for _, fact := range facts {
		widest = max(widest, pretty.StringWidth(fact[0]))
	}
	rest := strings.Repeat(" ", widest+columnGap)
	for _, fact := range facts {
		name := pretty.Pad(fact[0], widest+columnGap, ' ')
		p.Paragraph(name, rest, fact[1])
	}
}

// Reflow appends text whose lines may be broken for another width. Lines without an indent are one
// paragraph until an empty line; a line with an indent stays a line, and what does not fit
// continues below its last column, as in "  -x   what it does".
func (p *Page) Reflow(s string) {
	if p.width == 0 {
		p.WriteString(s + "\n")
		return
	}
	var paragraph []string
	flush := func() {
		if len(paragraph) > 0 {
			p.Paragraph("", "", strings.Join(paragraph, " "))
		}
		paragraph = nil
	}
	for line := range strings.SplitSeq(s, "\n") {
		body := strings.TrimLeft(line, " ")
		if body != "" && body == line {
			paragraph = append(paragraph, line)
			continue
		}
		flush()
		if pretty.StringWidth(line) <= p.width {
			p.WriteString(line + "\n")
			continue
		}
		head := line[:len(line)-len(body)]
		if i := strings.LastIndex(body, "  "); i >= 0 {
			head += body[:i+2]
		}
		rest := strings.Repeat(" ", min(pretty.StringWidth(head), p.width/2))
		p.Paragraph(head, rest, strings.TrimPrefix(line, head))
	}
	flush()
}
