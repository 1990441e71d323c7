package main

// The examples of docs/hsms.md: they show single keys, so that much is missing in them, but what
// stands there must be right.

import (
	"os"
	"strings"
	"testing"
)

func TestExamplesOfHSMs(t *testing.T) {
	text, err := os.ReadFile("../../docs/hsms.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```yaml\n")[1:]
	if len(blocks) < 8 {
		t.Fatalf("%d examples, there were more", len(blocks))
	}
	for _, block := range blocks {
		example, _, _ := strings.Cut(block, "```")
		l := parseConfig("example.yaml", "/etc/xks-proxy", []byte(example), nil)
		for _, problem := range l.report.problems {
			line := problem.String()
			if !strings.Contains(line, "is missing") && !strings.Contains(line, "there is no") {
				t.Errorf("%s\n%s", line, example)
			}
		}
	}
}
