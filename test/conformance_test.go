package test

// The conformance table: every numbered requirement with what is asserted about it.
// docs/conformance.md is written from it (go test ./test -run Conformance -update).

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"xks-proxy/internal/testkit"
)

// requirement is one row.
type requirement struct {
	number string
	says   string   // the requirement in short
	status string   // met, partly or notYet
	but    string   // what is lacking, or where the limits are
	checks []check  // run by TestConformance
	also   []string // other tests that assert it: "TestDrain", "pkg/sigv4: TestMutation"
}

const (
	met    = "met"
	partly = "partly"
	notYet = "not yet"
)

// check is one assertion. Its name completes "it is asserted that …".
type check struct {
	asserts string
	run     func(t *testing.T)
}

func conformance() []requirement {
	var all []requirement
	for _, group := range [][]requirement{
		httpRequirements(), messageRequirements(), timeRequirements(), authenticationRequirements(), keyRequirements(), encryptRequirements(),
		decryptRequirements(), healthRequirements(), errorRequirements(), laterRequirements(),
	} {
		all = append(all, group...)
	}
	return all
}

// required are the numbers that must have a row.
var required = []struct {
	group string
	count int
}{
	{"U", 15}, {"A", 10}, {"C", 2}, {"K", 3}, {"E", 6}, {"D", 3}, {"H", 5}, {"X", 7}, {"Z", 4}, {"L", 3}, {"R", 7},
}

func TestConformance(t *testing.T) {
	t.Parallel()
	sharedProxy(t)
	for _, r := range conformance() {
		t.Run(r.number, func(t *testing.T) {
			for _, c := range r.checks {
				t.Run(c.asserts, c.run)
			}
		})
	}
}

// Every requirement has one row, and no row claims what nothing asserts.
func TestConformanceCoverage(t *testing.T) {
	t.Parallel()
	rows := map[string]requirement{}
	for _, r := range conformance() {
		if _, twice := rows[r.number]; twice {
			t.Errorf("%s has two rows", r.number)
		}
		rows[r.number] = r
		checkRow(t, r)
	}
	count := 0
	for _, group := range required {
		for i := range group.count {
			number := fmt.Sprint(group.group, i+1)
			if _, ok := rows[number]; !ok {
				t.Errorf("%s has no row", number)
			}
			count++
		}
	}
	if count != len(rows) {
		t.Errorf("%d rows for %d requirements", len(rows), count)
	}
}

func checkRow(t *testing.T, r requirement) {
	t.Helper()
	asserted := len(r.checks) + len(r.also)
	switch {
	case r.says == "":
		t.Errorf("%s says nothing", r.number)
	case r.status != met && r.status != partly && r.status != notYet:
		t.Errorf("%s has the status %q", r.number, r.status)
	case r.status != notYet && asserted == 0:
		t.Errorf("%s is said to be %s, and nothing asserts it", r.number, r.status)
	case r.status != met && r.but == "":
		t.Errorf("%s is %s without a word about what is lacking", r.number, r.status)
	}
	for _, name := range r.also {
		checkTestExists(t, r.number, name)
	}
}

func checkTestExists(t *testing.T, number, name string) {
	t.Helper()
	directory := "."
	if where, test, elsewhere := strings.Cut(name, ": "); elsewhere {
		directory, name = filepath.Join("..", where), test
	}
	files, err := filepath.Glob(filepath.Join(directory, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^func ` + regexp.QuoteMeta(name) + `\(t \*testing\.T\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if declared.Match(text) {
			return
		}
	}
	t.Errorf("%s refers to the test %s, which is not in %s", number, name, directory)
}

const conformanceFile = "../docs/conformance.md"

// The document is what the table says.
func TestConformanceDocument(t *testing.T) {
	text := conformanceDocument()
	if testkit.Update() {
		err := os.WriteFile(conformanceFile, text, 0o644)
		if err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(conformanceFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text) {
		t.Error("docs/conformance.md is stale: go test ./test -run TestConformanceDocument -update")
	}
}

const conformanceHead = `# Conformance

What an external key store proxy must do, in short, and what the tests in test/ assert about it against the real program in front of two real
SoftHSM tokens. The rows follow the [AWS KMS External Key Store Proxy API Specification](https://github.com/aws/aws-kms-xksproxy-api-spec), version
1.0.3, and what AWS documents beside it; where they differ from it, the specification is right. The numbers are those that comments and tests cite.

This file is written by a test from the table that the tests run: ` + "`go test ./test -run TestConformanceDocument -update`" + `.

Status: **met** is asserted in full; **partly** says what is lacking; **not yet** is not there.
`

const conformanceGroups = "U URIs and HTTP|A Authentication|C Certificates and endpoint|K GetKeyMetadata|E Encrypt|D Decrypt|H GetHealthStatus|X Errors|Z Authorization by policy|L Logging and audit|R Resilience"

func conformanceDocument() []byte {
	var b bytes.Buffer
	b.WriteString(conformanceHead)
	rows := conformance()
	b.WriteString(conformanceCount(rows))
	for title := range strings.SplitSeq(conformanceGroups, "|") {
		letter := title[:1]
		fmt.Fprintf(&b, "\n## %s. %s\n\n| No. | Requirement | Status | Asserted | Tests |\n|---|---|---|---|---|\n", letter, title[2:])
		for _, r := range rows {
			if strings.HasPrefix(r.number, letter) {
				b.WriteString(r.row())
			}
		}
	}
	b.WriteString(refusalsDocument())
	return b.Bytes()
}

func conformanceCount(rows []requirement) string {
	count := map[string]int{}
	for _, r := range rows {
		count[r.status]++
	}
	return fmt.Sprintf("\nOf %d requirements %d are met, %d partly, %d not yet.\n", len(rows), count[met], count[partly], count[notYet])
}

func (r requirement) row() string {
	var asserted, tests []string
	for _, c := range r.checks {
		asserted = append(asserted, c.asserts)
	}
	if len(r.checks) > 0 {
		tests = append(tests, "TestConformance/"+r.number)
	}
	tests = append(tests, r.also...)
	status := "**" + r.status + "**"
	if r.but != "" {
		status += ": " + r.but
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |\n", r.number, r.says, status, strings.Join(asserted, "; "), strings.Join(tests, ", "))
}

// overEveryWay runs a check over HTTP/1.1 and HTTP/2, TLS 1.2 and 1.3.
func overEveryWay(run func(t *testing.T, c *client)) func(*testing.T) {
	return func(t *testing.T) {
		p := sharedProxy(t)
		for _, w := range ways {
			t.Run(w.String(), func(t *testing.T) { run(t, p.client(t, w)) })
		}
	}
}

// refusal is a request and the error that it gets.
type refusal struct {
	name   string
	uri    string
	body   any
	edit   func(*call)
	status int
	error  string
}

// refuses runs refusals, over every way.
func refuses(cases func(t testing.TB, w *world) []refusal) func(*testing.T) {
	return overEveryWay(func(t *testing.T, c *client) {
		for _, one := range cases(t, c.proxy.world) {
			k := c.call(one.uri, encode(one.body))
			if one.edit != nil {
				one.edit(k)
			}
			r := c.mustDo(t, k)
			err := r.checkError(one.status, one.error)
			if err != nil {
				t.Errorf("%s: %v; log line:\n%s", one.name, err, r.line())
			}
		}
	})
}
