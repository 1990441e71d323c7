package cli

// The hsm command: look at the HSMs of a running proxy, take one out for planned
// maintenance, put it back, give it a new process; and make the test keys.

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/cli/probe"
	"xks-proxy/internal/text"
)

const hsmLong = `hsm looks at the HSMs of a running proxy and takes them out of service, through the
proxy's admin socket (admin.socket of its configuration). create-test-key and probe talk
to the HSMs themselves.

For planned maintenance of one HSM of several, without a failed request:

  xks-proxy hsm drain hsm-a     no new request; waits until none is in flight
  (do the maintenance)
  xks-proxy hsm resume hsm-a    waits until a probe has let it serve again`

const hsmListLong = `list prints the HSMs of each group:

  SERVICE    in service, returning (gets a growing share), suspected, out or drained, and since when
  HEALTH     what the last probe found, as GetHealthStatus tells AWS KMS
  PROCESS    the process id of its hsm-worker, or what has become of it; RESTARTS since the start
  SESSIONS   PKCS#11 sessions: busy / hung / all
  REQUESTS   attempts since the start, and of these FAULTS of the HSM
  P50/P99    time to an answer, over recent ones

Below the table: why an HSM is not in service, its last fault, and problems with the keys. A
problem that many keys share is one line; the worst comes first. "keys list" shows every key.
--json prints everything.`

func newHSMCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "hsm",
		Short: "Show, drain, resume and restart the HSMs of a running proxy",
		Long:  hsmLong,
		Args:  cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE:  command.CommandOrHelp,
	}
	c.AddCommand(
		newHSMListCommand(),
		newHSMDrainCommand(),
		newHSMResumeCommand(),
		newHSMRestartCommand(),
		newHSMRefreshCommand(),
		newCreateTestKeyCommand(),
		newMakeTestKeyCommand(),
		probe.New(),
		probe.NewChild(),
	)
	return c
}

func newHSMListCommand() *cobra.Command {
	f := &command.ProxyFlags{}
	c := &cobra.Command{
		Use:     "list",
		Short:   "Print the HSMs of each group and their state",
		Long:    hsmListLong,
		Example: "  xks-proxy hsm list",
		RunE: func(c *cobra.Command, _ []string) error {
			client, err := f.Client()
			if err != nil {
				return err
			}
			status, body, err := client.List(c.Context())
			if err != nil {
				return err
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { printHSMs(p, status, time.Now()) },
			)
		},
	}
	f.RegisterArgument(c)
	return c
}

func newHSMDrainCommand() *cobra.Command {
	c := newOrderCommand(
		order{
			path:  api.DrainPath,
			wait:  "how long to wait for what is in flight",
			force: "drain it even if no other HSM of its group can serve",
		},
	)
	c.Use = "drain NAME"
	c.Short = "Take an HSM out of service and wait until it is idle"
	c.Long = `drain sends an HSM no new requests. It waits until the requests in flight are answered
and no abandoned call is left in the PKCS#11 module. The HSM stays out of service, even if the
others fail, until "resume" or the next start of the proxy.
Without --force, drain refuses the last HSM of a group that can serve. A second order for the
same HSM waits for the first, up to its --timeout.

Exit code 0: nothing is in flight on it. 1: the order was refused, or something still was.`
	c.Example = "  xks-proxy hsm drain hsm-a"
	return c
}

func newHSMResumeCommand() *cobra.Command {
	c := newOrderCommand(
		order{path: api.ResumePath, wait: "how long to wait until it is in service"},
	)
	c.Use = "resume NAME"
	c.Short = "Return an HSM to service and wait until it serves"
	c.Long = `resume ends a drain, has the HSM probed at once and waits until it serves. An HSM
that is out for another reason is probed, too.

Exit code 0: it is in service. 1: it is not yet. The reason is printed, and it returns when
a probe succeeds.`
	c.Example = "  xks-proxy hsm resume hsm-a"
	return c
}

func newHSMRestartCommand() *cobra.Command {
	c := newOrderCommand(
		order{
			path:  api.RestartPath,
			wait:  "how long to wait until it is in service again",
			force: "restart it even if no other HSM of its group can serve",
		},
	)
	c.Use = "restart NAME"
	c.Short = "Replace the process of an HSM"
	c.Long = `restart drains an HSM for a moment, ends its process, starts a new one, which loads the
PKCS#11 module and logs in anew, and puts the HSM back. Requests go to the others
meanwhile. A PIN that was refused is tried again, once. An HSM that was drained stays drained.
Without --force, restart refuses the last HSM of a group that can serve.

Exit code 0: it has a new process and is in service. 1: the order was refused, or it is not.`
	c.Example = "  xks-proxy hsm restart hsm-a"
	return c
}

// order is what the commands that change something differ in.
type order struct {
	path  string
	wait  string // what --timeout is about
	force string // what --force does; "": there is none
}

// oneHSM refuses a command line that does not name one HSM. Its error is about usage,
// as cobra's own.
func oneHSM(c *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 || args[0] == "":
		return fmt.Errorf(
			"which HSM? Give its name: %s NAME (xks-proxy hsm list prints the names)",
			c.CommandPath(),
		)
	case len(args) > 1:
		return fmt.Errorf("one HSM at a time, not %d", len(args))
	}
	return nil
}

// checkWait refuses a --timeout that the admin socket does not take.
func checkWait(wait time.Duration) error {
	if wait > 0 && wait <= socket.MaxWait {
		return nil
	}
	return command.UsageError(fmt.Errorf("--timeout %s: it takes up to %s", wait, socket.MaxWait))
}

func newOrderCommand(o order) *cobra.Command {
	f := &command.ProxyFlags{}
	var force bool
	var wait time.Duration
	c := &cobra.Command{
		Args: oneHSM,
		RunE: func(c *cobra.Command, args []string) error {
			err := checkWait(wait)
			if err != nil {
				return err
			}
			client, err := f.Client()
			if err != nil {
				return err
			}
			message, body, err := client.Order(c.Context(), o.path, args[0], force, wait)
			if err != nil {
				return err
			}
			return f.Say(
				c.OutOrStdout(),
				body,
				func(p *text.Page) { p.WriteString(message + "\n") },
			)
		},
	}
	f.Register(c)
	c.ValidArgsFunction = command.OnlyFirst(f.CompleteHSMs())
	c.Flags().DurationVar(&wait, "timeout", socket.Wait, o.wait)
	if o.force != "" {
		c.Flags().BoolVar(&force, "force", false, o.force)
	}
	return c
}
