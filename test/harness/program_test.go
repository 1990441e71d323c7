package harness

import (
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestLineWriter cuts a text into lines, however it is written.
func TestLineWriter(t *testing.T) {
	const text = "one\n\nthree, which is longer\nan unfinished one"
	want := strings.Split(text, "\n")
	for size := 1; size <= len(text); size++ {
		var got []string
		w := NewLineWriter(func(line []byte) { got = append(got, string(line)) })
		for part := range slices.Chunk([]byte(text), size) {
			n, err := w.Write(part)
			if n != len(part) || err != nil {
				t.Fatalf("%d bytes of %d: %v", n, len(part), err)
			}
		}
		w.end()
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d bytes: %q", size, got)
		}
	}
}

// TestServeOfAProgramThatEnds: the error shows the last lines.
func TestServeOfAProgramThatEnds(t *testing.T) {
	p, err := Serve("false", "", nil, func([]byte) {})
	if err == nil || p != nil {
		t.Errorf("%v, %v", p, err)
	}
	_, err = Serve("/nowhere/xks-proxy", "", nil, func([]byte) {})
	if !errors.Is(err, exec.ErrNotFound) && !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

// TestTable prints a row, and the Markdown of it.
func TestTable(t *testing.T) {
	table := Table[string]{
		{Name: "name", Width: -8, Cell: func(s string) string { return s }},
		{Name: "n", Width: 3, Cell: func(string) string { return "1" }},
	}
	lines := []string{table.Header(), table.Line("für"), table.Markdown([]string{"für"})}
	want := []string{
		"name       n", "für        1", "| name | n |\n| --- | ---: |\n| für | 1 |\n",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}
}
