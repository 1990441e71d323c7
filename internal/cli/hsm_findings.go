package cli

// Findings about keys in `hsm list`: a finding about many keys is one line.

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/catalogue"
)

const (
	maxFindingsSeen = 20 // lines of a group
	examplesSeen    = 3  // keys named in a line about many
)

func printFindings(p *text.Page, findings []catalogue.Finding, now time.Time) {
	if len(findings) == 0 {
		return
	}
	groups := catalogue.GroupFindings(findings)
	p.Printf("\n  About the keys: %s\n", findingCount(groups))
	for _, g := range groups[:min(len(groups), maxFindingsSeen)] {
		since := text.Duration(now.Sub(g.Since))
		p.Paragraph("    ", "      ", fmt.Sprintf("%s: %s (%s, for %s): %s",
			g.Kind, findingKeys(g), strings.Join(g.HSMs, ", "), since, g.Detail))
	}
	if more := len(groups) - maxFindingsSeen; more > 0 {
		p.Paragraph("    ", "      ", fmt.Sprintf(
			"and %d more lines: xks-proxy keys list shows every key, --json every finding", more))
	}
}

// findingCount says how many findings there are, and how many of them matter.
func findingCount(groups []catalogue.FindingGroup) string {
	all, minor := 0, 0
	for _, g := range groups {
		all += g.Count()
		if g.Kind.Severity() == catalogue.Minor {
			minor += g.Count()
		}
	}
	said := text.Plural(all, "finding")
	switch {
	case minor == all:
		said += ", minor"
	case minor > 0:
		said += ", " + text.Count(uint64(minor)) + " of them minor"
	}
	return said
}

// findingKeys names the key of a finding, or counts the keys and names some.
func findingKeys(g catalogue.FindingGroup) string {
	first := findingPlace(catalogue.FindingPlace{Label: g.Label, Version: g.Version})
	if g.Count() == 1 {
		return first
	}
	examples := []string{first}
	for _, place := range g.Others[:min(len(g.Others), examplesSeen-1)] {
		examples = append(examples, findingPlace(place))
	}
	said := text.Plural(g.Count(), "key")
	if g.Count() > len(examples) {
		said += ", such as"
	} else {
		said += ":"
	}
	return said + " " + strings.Join(examples, ", ")
}

func findingPlace(p catalogue.FindingPlace) string {
	if p.Version == 0 {
		return strconv.Quote(p.Label)
	}
	return fmt.Sprintf("%q version %d", p.Label, p.Version)
}
