package main

// The commands `reload` and `config diff`: have a running proxy read its configuration
// again, and ask it beforehand what that would change.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// reloadWidth is that of the lines, columns.
const reloadWidth = 80

func newReloadCommand() *cobra.Command {
	f := &proxyFlags{}
	var accept string
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have a running proxy read its configuration again",
		Long: `reload has a running proxy read its configuration again, with all files that it names
and all secrets, and put it in force at once, without failing a request. If anything is
wrong with it, the old one stays in force, untouched, and what is wrong is printed.

HSMs that are new or whose settings or PIN have changed get a process of their own beside
the old one, which ends when no request uses it any more. Settings that take a restart
are named; they stay as they are, and the others come into force.

A change that may let in what is refused now (a policy or a forbid less, another client
CA, more labels, …) is listed. Where reload.loosening is confirm, it is refused, unless
it is accepted: --accept-loosening takes what the files say now, and
--accept-loosening=DIGEST only what was shown with that digest.

Exit code 0: in force. 1: not, and why. 2: wrong usage.`,
		Example: `  xks-proxy reload --config /etc/xks-proxy/xks-proxy.yaml
  xks-proxy config diff /etc/xks-proxy/xks-proxy.yaml    what would it change?
  xks-proxy reload --accept-loosening=3f9ab2c41d0766e1   what config diff showed, and nothing else`,
		Args: noArgsOfReload,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			answer, text, err := client.reload(c.Context(), http.MethodPost, acceptance(accept))
			if err != nil {
				return err
			}
			return f.say(c.OutOrStdout(), text, func(w io.Writer) error {
				fmt.Fprintf(w, "%s is in force, as generation %d, after %s.\n", answer.File, answer.Generation, shortDuration(answer.Took))
				return printChanges(c, answer, "Nothing has changed.")
			})
		},
	}
	f.register(c)
	c.Flags().StringVar(&accept, "accept-loosening", string(acceptNothing),
		"accept what may be let in that is refused now; with a `DIGEST`, only what was shown with it")
	c.Flags().Lookup("accept-loosening").NoOptDefVal = string(acceptAny)
	return c
}

// noArgsOfReload explains why a digest that stands by itself is not the flag's.
func noArgsOfReload(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Errorf("reload takes no argument, and there is %q; "+
			"a digest is joined to its flag: --accept-loosening=DIGEST", args[0]))
	}
	return nil
}

func newConfigDiffCommand() *cobra.Command {
	f := &proxyFlags{}
	c := &cobra.Command{
		Use:   "diff [FILE]",
		Short: "Say what a reload of the running proxy would change",
		Long: `diff asks the running proxy, whose configuration FILE is, what a reload would change. The
proxy reads the configuration again, with all files that it names and all secrets
(commands that print a secret are run); HSMs are not contacted, and nothing is changed.

  +  is added    -  is removed    ~  changes

What may let in what is refused now is listed once more, under "loosens".

Exit code 0: a reload would be accepted, as far as can be said without the HSMs. 1: it
would not, and why; or it has to be accepted (reload.loosening). 2: wrong usage.`,
		Example:           `  xks-proxy config diff /etc/xks-proxy/xks-proxy.yaml`,
		Args:              atMostOneFile,
		ValidArgsFunction: completeYAML,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				f.config = args[0]
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			answer, text, err := client.reload(c.Context(), http.MethodGet, acceptNothing)
			if err != nil {
				return err
			}
			err = f.say(c.OutOrStdout(), text, func(io.Writer) error {
				if len(args) > 0 && !samePath(args[0], answer.File) {
					fmt.Fprintf(c.ErrOrStderr(), "note: the running proxy reads %s, not %s; this is about the former\n", answer.File, args[0])
				}
				return printChanges(c, answer, "A reload would change nothing.")
			})
			if err == nil && answer.Confirm {
				return exitError{code: exitFailed} // the output says why
			}
			return err
		},
	}
	f.registerSocket(c)
	return c
}

// samePath compares two names of a file.
func samePath(a, b string) bool {
	absolute, err := filepath.Abs(a)
	return err != nil || absolute == b
}

// reload asks for a reload (POST) or for what one would change (GET).
func (c *adminClient) reload(
	ctx context.Context, method string, accept acceptance,
) (*reloadAnswer, []byte, error) {
	path := adminReloadPath
	if accept != acceptNothing {
		path += "?" + url.Values{acceptQuery: {string(accept)}}.Encode()
	}
	text, err := c.do(ctx, method, path, reloadPatience)
	if err != nil {
		return nil, nil, err
	}
	var answer reloadAnswer
	err = json.Unmarshal(text, &answer)
	if err != nil {
		return nil, nil, fmt.Errorf("what answers at %s is no xks-proxy, or one of another version: %w", c.socket, err)
	}
	return &answer, text, nil
}

// printChanges is the list for eyes; warnings go to standard error.
func printChanges(c *cobra.Command, a *reloadAnswer, none string) error {
	out := new(bytes.Buffer)
	if len(a.Changes) == 0 {
		fmt.Fprintln(out, none)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, change := range a.Changes {
		fmt.Fprintf(table, "  %s %s%s\n", change.sign(), change.Key, describeChange(change))
	}
	_ = table.Flush() // into a buffer
	if len(a.WaitsForRestart) > 0 {
		fmt.Fprintf(out, "A restart is needed for: %s\n", strings.Join(a.WaitsForRestart, ", "))
	}
	printLoosenings(out, a)
	for _, w := range a.Warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
	_, err := out.WriteTo(c.OutOrStdout())
	return err
}

// printLoosenings is what protection goes, in lines that fit.
func printLoosenings(out *bytes.Buffer, a *reloadAnswer) {
	if len(a.Loosens) == 0 {
		return
	}
	fmt.Fprintln(out, "\nLoosens (this may let in what was refused before):")
	for _, one := range shownLoosenings(a.Loosens) {
		printWithin(out, reloadWidth, "  ! ", "    ", one)
	}
	if a.Confirm && a.Generation == 0 {
		fmt.Fprintf(out, "\nreload.loosening is confirm: a reload refuses this until you accept it:\n  %s\n",
			acceptCommand(a.Digest))
	}
}

// describeChange is the second column; what is added or removed has its name only.
func describeChange(c reloadChange) string {
	var text string
	if c.Kind == changed {
		text = "\t" + c.Old + " -> " + c.New
	}
	if c.Restart {
		text += "   (takes a restart)"
	}
	return text
}
