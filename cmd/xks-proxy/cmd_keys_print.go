package main

// `keys list` for eyes: 80 columns on a terminal, whole lines in a pipe.

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

const (
	shortestLabel = 12 // columns that a label is never shortened below
	usualWidth    = 80 // of a terminal that does not tell its width
)

// terminalWidth is the number of columns of a terminal; 0 for what is none.
func terminalWidth(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return cmp.Or(int(size.Col), usualWidth)
}

// keys asks for the keys that fit a query, as JSON too.
func (c *adminClient) keys(ctx context.Context, q keyQuery) (*keyAnswer, []byte, error) {
	var answer keyAnswer
	text, err := c.do(ctx, http.MethodGet, adminKeysPath+"?"+q.values().Encode(), keysPatience)
	if err != nil {
		return nil, nil, err
	}
	err = c.read(text, &answer)
	return &answer, text, err
}

// keyPrinter prints keys.
type keyPrinter struct {
	width      int // columns; 0: any number
	attributes bool
}

func (p keyPrinter) print(w io.Writer, answer *keyAnswer) error {
	var b bytes.Buffer
	group, rest := "", answer.Keys
	for len(rest) > 0 {
		n := slices.IndexFunc(rest, func(k keyEntry) bool { return k.Group != rest[0].Group })
		if n < 0 {
			n = len(rest)
		}
		if group != "" {
			b.WriteString("\n")
		}
		group = rest[0].Group
		fmt.Fprintf(&b, "%s:\n\n", group)
		p.printGroup(&b, rest[:n])
		rest = rest[n:]
	}
	if len(answer.Keys) > 0 {
		b.WriteString("\n")
	}
	printWithin(&b, cmp.Or(p.width, listWidth), "", "", keySummary(answer))
	_, err := w.Write(b.Bytes())
	return err
}

// printGroup prints the rows, and below a row its notes.
func (p keyPrinter) printGroup(b *bytes.Buffer, keys []keyEntry) {
	t := table{{"LABEL", "<VERSION", "STATE", "HSMS", "USAGE"}}
	for i := range keys {
		k := &keys[i]
		t = append(t, []string{hsm.ShowLabel(k.ExactLabel()), keyVersionText(k), string(k.State), holdersText(k), commonUsage(k)})
	}
	p.shorten(t)
	var rows bytes.Buffer
	t.print(&rows)
	lines := strings.SplitAfter(rows.String(), "\n")
	b.WriteString(lines[0])
	for i := range keys {
		b.WriteString(lines[i+1])
		p.printNotes(b, &keys[i])
	}
}

// shorten cuts labels so that the lines fit the terminal.
func (p keyPrinter) shorten(t table) {
	if p.width == 0 {
		return
	}
	others := 0
	for column := 1; column < len(t[0]); column++ {
		widest := 0
		for _, row := range t {
			widest = max(widest, utf8.RuneCountInString(strings.TrimPrefix(row[column], "<")))
		}
		others += widest + 2
	}
	room := max(shortestLabel, p.width-others-2)
	for _, row := range t {
		row[0] = shortenedLabel(row[0], room)
	}
}

// shortenedLabel leaves the beginning and the end: names differ there.
func shortenedLabel(text string, room int) string {
	runes := []rune(text)
	if len(runes) <= room {
		return text
	}
	tail := room / 3
	return string(runes[:room-tail-1]) + "…" + string(runes[len(runes)-tail:])
}

func keyVersionText(k *keyEntry) string {
	if k.Version == nil {
		return "- "
	}
	text := strconv.FormatUint(uint64(*k.Version), 10)
	if k.Encrypts {
		return text + "*"
	}
	return text + " "
}

func holdersText(k *keyEntry) string {
	holders := 0
	for _, on := range k.HSMs {
		if len(on.Objects) > 0 {
			holders++
		}
	}
	return fmt.Sprintf("%d of %d", holders, len(k.HSMs))
}

// commonUsage is what every object allows, of what the proxy needs.
func commonUsage(k *keyEntry) string {
	if k.Version == nil {
		return k.Spec
	}
	common := []string{"encrypt", "decrypt"}
	for _, on := range k.HSMs {
		for _, o := range on.Objects {
			common = slices.DeleteFunc(common, func(usage string) bool { return !slices.Contains(o.Usage, usage) })
		}
	}
	return orElse(strings.Join(common, "+"), "none")
}

func (p keyPrinter) printNotes(b *bytes.Buffer, k *keyEntry) {
	wrap := func(text string) { printWithin(b, cmp.Or(p.width, listWidth), "      ", "        ", text) }
	if k.State != hsm.KeyComplete {
		for _, note := range k.Notes {
			wrap(note)
		}
	}
	if !p.attributes {
		return
	}
	for _, store := range k.KeyStores {
		wrap(fmt.Sprintf("key store %s: external key id %s", store.Name, store.KeyID))
	}
	for _, on := range k.HSMs {
		if len(on.Objects) == 0 {
			wrap(on.HSM + ": none")
		}
		for _, o := range on.Objects {
			wrap(on.HSM + ": " + objectText(o))
		}
	}
}

// objectText is one object in words.
func objectText(o hsm.KeyObject) string {
	id := "no CKA_ID"
	if o.ID != "" {
		id = "CKA_ID 0x" + o.ID
	}
	words := []string{id, o.Spec, orElse(strings.Join(o.Usage, "+"), "no usage")}
	for _, one := range []struct {
		is      bool
		yes, no string
	}{
		{o.Sensitive, "sensitive", "not sensitive"}, {o.Extractable, "extractable", "not extractable"}, {o.Local, "generated here", ""},
	} {
		word := one.no
		if one.is {
			word = one.yes
		}
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// keySummary counts the versions by state.
func keySummary(answer *keyAnswer) string {
	if len(answer.Keys) == 0 {
		return fmt.Sprintf("No key fits; there are %s in all.", plural(answer.All, "version"))
	}
	labels, states := map[string]bool{}, map[hsm.KeyState]int{}
	for _, k := range answer.Keys {
		labels[k.Group+"\x00"+k.ExactLabel()] = true
		states[k.State]++
	}
	var counts []string
	for _, state := range slices.Backward(hsm.KeyStates()) {
		if n := states[state]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, state))
		}
	}
	text := fmt.Sprintf("%s with %s: %s.", plural(len(labels), "key"), plural(len(answer.Keys), "version"), strings.Join(counts, ", "))
	if left := answer.All - len(answer.Keys); left > 0 {
		text += fmt.Sprintf(" %d more not shown.", left)
	}
	return text
}
