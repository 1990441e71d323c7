package cli

// The commands `reload` and `config diff`: have a running proxy read its configuration
// again, and ask it beforehand what that would change.

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/text"
)

func newReloadCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	var accept string
	c := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration of a running proxy",
		Long: `reload has a running proxy read its configuration again, with all files that it names
and all secrets, and put it into effect at once, without failing a request. If anything is
wrong with it, the old one stays in use, unchanged, and what is wrong is printed.

HSMs that are new or whose settings or PIN have changed get a process of their own beside
the old one, which ends when no request uses it any more. Settings that take a restart
are named; they stay as they are, and the others come into force.

A change that may let in what is refused now (a policy or a forbid removed, another
client CA, more labels, …) is listed. Where reload.loosening is confirm, it is refused, unless
it is accepted: --accept-loosening takes what the files say now, and
--accept-loosening=DIGEST only what was shown with that digest.

Exit code 0: in effect. 1: not, and why. 2: wrong usage.`,
		Example: `  xks-proxy reload
  xks-proxy config diff    what would it change?
  xks-proxy reload --accept-loosening=3f9ab2c41d0766e1   what config diff showed`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			answer, body, err := client.Reload(c.Context(), http.MethodPost, api.Acceptance(accept))
			if err != nil {
				return err
			}
			return f.Say(c.OutOrStdout(), body, func(p *text.Page) {
				p.Printf(
					"%s is in use, as generation %d, after %s.\n",
					answer.File,
					answer.Generation,
					text.Duration(time.Duration(answer.Took)),
				)
				printChanges(p, answer, "Nothing has changed.")
				warnAll(c.ErrOrStderr(), answer.Warnings)
			})
		},
	}
	f.RegisterArgument(c)
	file := c.Args
	c.Args = func(c *cobra.Command, args []string) error { return reloadArguments(c, args, file) }
	c.Flags().StringVar(&accept, "accept-loosening", string(api.AcceptNothing),
		"accept what may be let in that is refused now; with a `DIGEST`, only what was shown with it")
	c.Flags().Lookup("accept-loosening").NoOptDefVal = string(api.AcceptAny)
	return c
}

// reloadArguments takes FILE, but not beside --accept-loosening: there it is probably a digest, and
// everything would be accepted instead.
func reloadArguments(c *cobra.Command, args []string, file cobra.PositionalArgs) error {
	if len(args) > 0 && c.Flags().Changed("accept-loosening") {
		return command.UsageError(
			fmt.Errorf("--accept-loosening takes no argument behind it, and there is %q; "+
				"a digest is joined to its flag: --accept-loosening=DIGEST, a configuration is "+
				"named by --config",
				args[0]),
		)
	}
	return file(c, args)
}

func newConfigDiffCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	c := &cobra.Command{
		Use:   "diff",
		Short: "Print what a reload of the running proxy would change",
		Long: `diff asks the running proxy, whose configuration FILE is, what a reload would change. The
proxy reads the configuration again, with all files that it names and all secrets
(commands that print a secret are run); HSMs are not contacted, and nothing is changed.

  +  is added    -  is removed    ~  changes

What may let in what is refused now is listed once more, under "loosens".

Exit code 0: a reload would be accepted, as far as can be said without the HSMs. 1: it
would not, and why; or it has to be accepted (reload.loosening). 2: wrong usage.`,
		Example: `  xks-proxy config diff /etc/xks-proxy/xks-proxy.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			answer, body, err := client.Reload(c.Context(), http.MethodGet, api.AcceptNothing)
			if err != nil {
				return err
			}
			err = f.Say(c.OutOrStdout(), body, func(p *text.Page) {
				if f.File != "" && !samePath(f.File, answer.File) {
					fmt.Fprintf(
						c.ErrOrStderr(),
						"note: the running proxy reads %s, not %s; this is about the former\n",
						answer.File,
						f.File,
					)
				}
				printChanges(p, answer, "A reload would change nothing.")
				warnAll(c.ErrOrStderr(), answer.Warnings)
			})
			if err == nil && answer.Confirm {
				return command.ExitError{Code: command.ExitFailed} // the output says why
			}
			return err
		},
	}
	f.RegisterArgument(c)
	return c
}

// samePath compares two names of a file.
func samePath(a, b string) bool {
	absolute, err := filepath.Abs(a)
	return err != nil || absolute == b
}

// printChanges is the list for eyes.
func printChanges(p *text.Page, a *api.ReloadAnswer, none string) {
	if len(a.Changes) == 0 {
		p.WriteString(none + "\n")
	}
	for _, change := range a.Changes {
		p.Paragraph("  "+change.Sign()+" ", "      ", change.Key+describeChange(change))
	}
	if len(a.WaitsForRestart) > 0 {
		p.Paragraph("", "  ", "A restart is needed for: "+strings.Join(a.WaitsForRestart, ", "))
	}
	printLoosenings(p, a)
}

// printLoosenings is what protection goes.
func printLoosenings(p *text.Page, a *api.ReloadAnswer) {
	if len(a.Loosens) == 0 {
		return
	}
	p.WriteString("\nLoosens (this may let in what was refused before):\n")
	for _, one := range api.ShownLoosenings(a.Loosens) {
		p.Paragraph("  ! ", "    ", one)
	}
	if a.Confirm && a.Generation == 0 {
		p.WriteString("\n")
		p.Paragraph(
			"",
			"",
			"reload.loosening is confirm: a reload refuses this until you accept it:",
		)
		p.WriteString("  " + api.AcceptCommand(a.Digest) + "\n")
	}
}

func warnAll(w io.Writer, warnings []string) {
	for _, warning := range warnings {
		fmt.Fprintf(w, "warning: %s\n", warning)
	}
}

// describeChange says what becomes of a setting; what is added or removed has its name only.
func describeChange(c config.Change) string {
	description := ""
	if c.Kind == config.Changed {
		description = ": " + c.Old + " -> " + c.New
	}
	if c.Restart {
		description += " (takes a restart)"
	}
	return description
}
