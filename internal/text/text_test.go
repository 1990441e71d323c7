package text

import (
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                       "0s",
		310 * time.Microsecond:  "310µs",
		2149 * time.Microsecond: "2.1ms",
		450 * time.Millisecond:  "450ms",
		1990 * time.Millisecond: "1.9s",
		12 * time.Second:        "12s",
		200 * time.Second:       "3m20s",
		3 * time.Minute:         "3m",
		312 * time.Minute:       "5h12m",
		99 * time.Hour:          "4d3h",
	} {
		got := Duration(d)
		if got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestTimeIsUTC(t *testing.T) {
	zone := time.FixedZone("somewhere", 3*3600)
	got := Time(time.Date(2026, 11, 29, 18, 4, 5, 999, zone))
	if got != "2026-11-29T15:04:05Z" {
		t.Error(got)
	}
}

func TestCounts(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 99_999: "99999", 1_204_999: "1204k", 31_540_000: "31.5M", 12_000_000_000: "12.0G",
	} {
		if Count(n) != want {
			t.Errorf("%d: %q, want %q", n, Count(n), want)
		}
	}
	if Plural(1, "key") != "1 key" || Plural(0, "key") != "0 keys" ||
		Plural(200_000, "key") != "200k keys" {
		t.Error(Plural(1, "key"), Plural(0, "key"), Plural(200_000, "key"))
	}
}

func TestDidYouMean(t *testing.T) {
	known := []string{"finance", "payroll", "HSM-a"}
	for name, want := range map[string]string{
		"finanec":                `did you mean "finance"?`,
		"hsm-a":                  `did you mean "HSM-a"?`,
		"zzzzzzz":                "known: finance, payroll, HSM-a",
		strings.Repeat("x", 999): "known: finance, payroll, HSM-a",
	} {
		got := DidYouMean(name, known)
		if got != want {
			t.Errorf("%.20q: %q, want %q", name, got, want)
		}
	}
	got := DidYouMean("zzzz", make([]string, 33))
	if !strings.HasSuffix(got, " and 3 more") {
		t.Error(got)
	}
	if DidYouMean("zzzz", nil) != "there are none" {
		t.Error(DidYouMean("zzzz", nil))
	}
}

// example is a table of one long text, numbers, and a label without spaces.
func example() *Table {
	t := NewTable("LABEL", "<VERSION", "STATE", "WHY IT IS SO")
	t.Row("payroll/2026/eu-central-1/primary", "1", "complete", "-")
	t.Row("köln-1", "12", "missing", "hsm-b does not hold it; copy it there from hsm-a")
	t.Note("version missing: what was never on every HSM is not used to encrypt")
	return t
}

func TestTable(t *testing.T) {
	for width, want := range map[int]string{
		0: `
  LABEL                              VERSION  STATE     WHY IT IS SO
  payroll/2026/eu-central-1/primary        1  complete  -
  köln-1                                  12  missing   hsm-b does not hold it; copy it there from hsm-a
      version missing: what was never on every HSM is not used to encrypt
`,
		80: `
  LABEL                              VERSION  STATE     WHY IT IS SO
  payroll/2026/eu-central-1/primary        1  complete  -
  köln-1                                  12  missing   hsm-b does not hold it;
                                                        copy it there from hsm-a
      version missing: what was never on every HSM is not used to encrypt
`,
		50: `
  LABEL                          VERSION  STATE
  payroll/2026/eu-central-1/pri        1  complete
  mary
  köln-1                              12  missing

  LABEL                      WHY IT IS SO
  payroll/2026/eu-central-1  -
  /primary
  köln-1                     hsm-b does not hold
                             it; copy it there
                             from hsm-a
      version missing: what was never on every HSM
        is not used to encrypt
`,
	} {
		p := NewPage(width)
		p.Table(example())
		got := "\n" + p.String()
		if got != want {
			t.Errorf("at %d columns:%s\nwant:%s", width, got, want)
		}
	}
}

// Whatever the width: every line fits, and every word is there.
func TestTableFitsAndLosesNothing(t *testing.T) {
	for width := 40; width <= 200; width++ {
		p := NewPage(width)
		p.Table(example())
		got := p.String()
		for line := range strings.Lines(got) {
			if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > width {
				t.Errorf("%d columns: too long: %q", width, line)
			}
			if strings.HasSuffix(line, " \n") {
				t.Errorf("%d columns: trailing space: %q", width, line)
			}
		}
		for _, row := range example().rows {
			for _, cell := range append(row.cells, row.notes...) {
				for word := range strings.FieldsSeq(cell) {
					if !strings.Contains(got, word[:min(len(word), longWord)]) {
						t.Errorf("%d columns: %q is missing in\n%s", width, word, got)
					}
				}
			}
		}
	}
}

func TestParagraph(t *testing.T) {
	p := NewPage(20)
	p.Paragraph("- ", "  ", "one two three four five /a/path/longer/than/a/line six")
	want := "- one two three four\n  five\n  /a/path/longer/than/a/line\n  six\n"
	if p.String() != want {
		t.Errorf("%q", p.String())
	}
	p = NewPage(0)
	p.Paragraph("- ", "  ", strings.Repeat("word ", 100))
	if strings.Count(p.String(), "\n") != 1 {
		t.Errorf("wrapped: %q", p.String())
	}
}

// COLUMNS is for terminals: a pipe gets whole lines.
func TestWidthOfAPipe(t *testing.T) {
	t.Setenv("COLUMNS", "40")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if Width(w) != 0 || Width(&strings.Builder{}) != 0 {
		t.Error("a pipe has a width")
	}
}

func TestReflow(t *testing.T) {
	const help = "list prints the HSMs of each\ngroup, all of them:\n\n" +
		"  SERVICE    in service, or out\n  x\n\nExit code 0: good.\n1: it is not."
	p := NewPage(30)
	p.Reflow(help)
	want := "list prints the HSMs of each\ngroup, all of them:\n\n" +
		"  SERVICE    in service, or\n             out\n  x\n\nExit code 0: good. 1: it is\nnot.\n"
	if p.String() != want {
		t.Errorf("%s", p.String())
	}
	p = NewPage(0)
	p.Reflow(help)
	if p.String() != help+"\n" {
		t.Errorf("a pipe gets\n%s", p.String())
	}
}

func TestIsName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "hsm-a.1_b": true, "9": true, strings.Repeat("n", 63): true,
		"": false, "-a": false, ".": false, "a b": false, "ä": false,
		strings.Repeat("n", 64): false, "a\n": false,
	} {
		if got := IsName(name); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}
