package cli

// Manual pages, from the same texts as --help. The command is hidden: it is for "make man" and for
// those who package the program.

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/version"
)

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIRECTORY",
		Short: "Write a manual page for each command",
		Long: "man writes a manual page for each command into DIRECTORY, which it makes if " +
			"need be.",
		Args:   command.OneArgument("DIRECTORY"),
		Hidden: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return writeManual(args[0])
		},
	}
}

// writeManual writes the pages.
func writeManual(dir string) error {
	err := os.MkdirAll(dir, 0o755)
	if err != nil {
		return fmt.Errorf("the directory for manual pages cannot be made: %w", err)
	}
	root := newRootCommand()
	root.DisableAutoGenTag = true
	addCompletion(root)
	asMarkdown(root)
	return writePages(root, dir)
}

func writePages(c *cobra.Command, dir string) error {
	built := version.Get()
	header := doc.GenManHeader{
		Section: "8",
		Source:  "xks-proxy " + built.Version,
		Manual:  "External key store proxy",
	}
	committed, err := time.Parse(time.RFC3339, built.RevisionTime)
	if err == nil {
		header.Date = &committed // the same program makes the same pages
	}
	var page bytes.Buffer
	err = doc.GenMan(c, &header, &page)
	if err != nil {
		return fmt.Errorf("%s: the manual page cannot be made: %w", c.CommandPath(), err)
	}
	name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".8"
	roff := manualFlag.ReplaceAll(page.Bytes(), []byte(".TP\n$1\n$2"))
	err = os.WriteFile(filepath.Join(dir, name), roff, 0o644)
	if err != nil {
		return fmt.Errorf("the manual page cannot be written: %w", err)
	}
	for _, child := range c.Commands() {
		if !child.IsAvailableCommand() {
			continue
		}
		err = writePages(child, dir)
		if err != nil {
			return err
		}
	}
	return nil
}

// manualFlag is how the generator writes a flag: name, default, and in the next line the usage.
var manualFlag = regexp.MustCompile(
	`(?m)^(?:\.PP\n)?(\\fB-.*?)(?:=""|\[=""\]|\[=false\]|\[=\])?\n\t(.*)$`,
)

// asMarkdown has the generator, which reads Markdown, show texts as they are: indented lines are a
// block that keeps its lines, and no character is special.
func asMarkdown(c *cobra.Command) {
	for _, child := range c.Commands() {
		asMarkdown(child)
	}
	var b strings.Builder
	block := false
	for line := range strings.SplitSeq(c.Long, "\n") {
		indented := strings.HasPrefix(line, "  ")
		if indented != block && line != "" {
			b.WriteString("\n") // a block begins or ends
			if indented {
				b.WriteString("```\n")
			} else {
				b.WriteString("```\n\n")
			}
			block = indented
		}
		if !indented {
			line = markdownEscapes.Replace(line)
		}
		b.WriteString(line + "\n")
	}
	if block {
		b.WriteString("```\n")
	}
	c.Long = b.String()
}

var markdownEscapes = strings.NewReplacer(
	`\`,
	`\\`,
	"*",
	`\*`,
	"_",
	`\_`,
	"`",
	"\\`",
	"<",
	`\<`,
	">",
	`\>`,
	"[",
	`\[`,
	"]",
	`\]`,
	"#",
	`\#`,
	"~",
	`\~`,
)
