package main

// The commands `reload` and `config diff`: have a running proxy read its configuration
// again, and ask it beforehand what that would change.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

func newReloadCommand() *cobra.Command {
	f := &proxyFlags{}
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have a running proxy read its configuration again",
		Long: `reload has a running proxy read its configuration again, with all files that it names
and all secrets, and put it in force at once, without failing a request. If anything is
wrong with it, the old one stays in force, untouched, and what is wrong is printed.

HSMs that are new or whose settings or PIN have changed get a process of their own beside
the old one, which ends when no request uses it any more. Settings that take a restart
are named; they stay as they are, and the others come into force.

Exit code 0: in force. 1: not, and why. 2: wrong usage.`,
		Example: `  xks-proxy reload
  xks-proxy config diff    what would it change?`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			answer, body, err := client.reload(c.Context(), http.MethodPost)
			if err != nil {
				return err
			}
			return f.say(c.OutOrStdout(), body, func(p *text.Page) {
				p.Printf("%s is in force, as generation %d, after %s.\n", answer.File, answer.Generation, shortDuration(time.Duration(answer.Took)))
				printChanges(p, answer, "Nothing has changed.")
				warnAll(c.ErrOrStderr(), answer.Warnings)
			})
		},
	}
	f.registerArgument(c)
	return c
}

func newConfigDiffCommand() *cobra.Command {
	f := &proxyFlags{}
	c := &cobra.Command{
		Use:   "diff",
		Short: "Say what a reload of the running proxy would change",
		Long: `diff asks the running proxy, whose configuration FILE is, what a reload would change. The
proxy reads the configuration again, with all files that it names and all secrets
(commands that print a secret are run); HSMs are not contacted, and nothing is changed.

  +  is added    -  is removed    ~  changes

Exit code 0: a reload would be accepted, as far as can be said without the HSMs. 1: it
would not, and why. 2: wrong usage.`,
		Example: `  xks-proxy config diff /etc/xks-proxy/xks-proxy.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			answer, body, err := client.reload(c.Context(), http.MethodGet)
			if err != nil {
				return err
			}
			return f.say(c.OutOrStdout(), body, func(p *text.Page) {
				if f.file != "" && !samePath(f.file, answer.File) {
					fmt.Fprintf(c.ErrOrStderr(), "note: the running proxy reads %s, not %s; this is about the former\n", answer.File, f.file)
				}
				printChanges(p, answer, "A reload would change nothing.")
				warnAll(c.ErrOrStderr(), answer.Warnings)
			})
		},
	}
	f.registerArgument(c)
	return c
}

// samePath compares two names of a file.
func samePath(a, b string) bool {
	absolute, err := filepath.Abs(a)
	return err != nil || absolute == b
}

// reload asks for a reload (POST) or for what one would change (GET).
func (c *adminClient) reload(ctx context.Context, method string) (*reloadAnswer, []byte, error) {
	body, err := c.do(ctx, method, adminReloadPath, reloadPatience)
	if err != nil {
		return nil, nil, err
	}
	var answer reloadAnswer
	err = json.Unmarshal(body, &answer)
	if err != nil {
		return nil, nil, fmt.Errorf("what answers at %s is no xks-proxy, or one of another version: %w", c.socket, err)
	}
	return &answer, body, nil
}

// printChanges is the list for eyes.
func printChanges(p *text.Page, a *reloadAnswer, none string) {
	if len(a.Changes) == 0 {
		p.WriteString(none + "\n")
	}
	for _, change := range a.Changes {
		p.Paragraph("  "+change.sign()+" ", "      ", change.Key+describeChange(change))
	}
	if len(a.WaitsForRestart) > 0 {
		p.Paragraph("", "  ", "A restart is needed for: "+strings.Join(a.WaitsForRestart, ", "))
	}
}

func warnAll(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
}

// describeChange says what becomes of a setting; what is added or removed has its name only.
func describeChange(c reloadChange) string {
	description := ""
	if c.Kind == changed {
		description = ": " + c.Old + " -> " + c.New
	}
	if c.Restart {
		description += " (takes a restart)"
	}
	return description
}
