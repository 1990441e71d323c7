package cli

// The list of what is blocked, for eyes.

import (
	"fmt"
	"strings"
	"time"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/text"
)

// printBlocks prints all rows.
func printBlocks(p *text.Page, list api.BlockList, now time.Time) {
	writeBlocks(p, list, now, len(list.Blocks)+len(list.Configured))
}

// writeBlocks prints at most limit rows.
func writeBlocks(p *text.Page, list api.BlockList, now time.Time, limit int) {
	if len(list.Blocks)+len(list.Configured) == 0 {
		p.WriteString("Nothing is blocked.\n")
		return
	}
	t := text.NewTable("WHAT", "SINCE", "BY")
	for _, one := range list.Blocks[:min(len(list.Blocks), limit)] {
		since := text.Time(
			one.Since,
		) + " (" + text.Duration(
			now.Sub(one.Since).Truncate(time.Second),
		) + ")"
		t.Row(one.String(), since, one.By)
		if one.Reason != "" {
			t.Note("reason: " + one.Reason)
		}
	}
	for _, one := range list.Configured[:min(len(list.Configured), limit-min(len(list.Blocks), limit))] {
		t.Row(killswitch.BlockTarget{KeyStore: one.KeyStore}.String(), "-", api.ConfigurationBlocks)
		place, _, _ := strings.Cut(one.Place, ": ")
		t.Note("in " + place)
	}
	p.Table(t)
	if more := len(list.Blocks) + len(list.Configured) - limit; more > 0 {
		p.Printf("  and %d more: xks-proxy block list\n", more)
	}
	switch {
	case list.Unsaved != "":
		p.WriteString("\n")
		p.Paragraph(
			"",
			"",
			fmt.Sprintf(
				"This will not survive a restart as it is: %s",
				text.Sentence(list.Unsaved),
			),
		)
	case !list.Survive && len(list.Blocks) > 0:
		p.WriteString("\n")
		p.Paragraph(
			"",
			"",
			`Blocks of operators will not survive a restart: state_directory is "".`,
		)
	}
}
