package request

// The request command: one signed request to a proxy, for smoke tests by operators.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
	"xks-proxy/internal/xksclient"
)

// ExitUnreachable is the exit code of request when there was no reply at all.
const ExitUnreachable = 3

const requestLong = `request sends one signed request to a proxy, as AWS KMS would send it, and prints what
came back.

With --config or --key-store it asks your own key store: endpoint, path, access key and
certificate are those of the configuration, and the request goes to the proxy's port on
this machine, or to --endpoint. Without, they are read from a connection file (the demo
writes ./demo/connection.json), or given by flags.

Exit codes:
  0  the request succeeded
  1  the proxy answered with an error, whose name and meaning are printed
  2  the command line is wrong
  3  no reply: refused, unknown CA, name mismatch, timeout, …; which one is printed`

const requestExample = `  xks-proxy request health --key-store payroll
  xks-proxy request encrypt --key-store payroll --key key-1 --plaintext hello
  xks-proxy request encrypt --key demo-key-1 --plaintext "hello" --cdiv
  xks-proxy request encrypt --plaintext hello --json | xks-proxy request decrypt
  xks-proxy request health --endpoint https://xks.example.com --path /store-1 \
      --access-key-id AKIA… --secret-file store-1.secret --repeat 1000`

// requestOptions are the flags that all requests have.
type requestOptions struct {
	to       connectionFlags
	metadata xksclient.CallMetadata
	http1    bool
	timeout  time.Duration
	repeat   int
	json     bool
}

// New is the request command with its four: encrypt, decrypt, metadata, health.
func New() *cobra.Command {
	o := &requestOptions{}
	c := &cobra.Command{
		Use:     "request",
		Short:   "Send a signed request to a proxy",
		Long:    requestLong,
		Example: requestExample,
		Args:    cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE:    command.CommandOrHelp,
	}
	flags := c.PersistentFlags()
	flags.SortFlags = false
	o.to.register(flags)
	_ = c.MarkPersistentFlagFilename("config", "yaml", "yml") // the flag exists
	command.CompleteFlag(c, "key-store", o.to.choice.Complete(command.ConfiguredKeyStores))
	flags.BoolVar(&o.http1, "http1", false, "speak HTTP/1.1 only, not HTTP/2")
	flags.DurationVar(
		&o.timeout,
		"timeout",
		5*time.Second,
		"give up after this time; AWS KMS does after 250ms",
	)
	flags.IntVar(&o.repeat, "repeat", 1, "send it `N` times in turn and print how long they took")
	flags.BoolVar(
		&o.json,
		"json",
		false,
		"print the reply as it came; with --repeat, latencies in JSON",
	)
	flags.StringVar(
		&o.metadata.PrincipalARN,
		"principal",
		"",
		"awsPrincipalArn: `ARN` of the caller (default: one made up)",
	)
	flags.StringVar(
		&o.metadata.KeyARN,
		"kms-key-arn",
		"",
		"kmsKeyArn: `ARN` of the KMS key (default: one made up)",
	)
	flags.StringVar(
		&o.metadata.Operation,
		"kms-operation",
		"",
		"kmsOperation: `name` (default: the usual one)",
	)
	flags.StringVar(
		&o.metadata.RequestID,
		"request-id",
		"",
		"kmsRequestId: `id` to find the request in the log (default: random)",
	)
	flags.StringVar(&o.metadata.ViaService, "via-service", "", "kmsViaService: `name`, such as ebs")
	flags.StringVar(&o.metadata.SourceVPC, "source-vpc", "", "awsSourceVpc: `id`")
	flags.StringVar(&o.metadata.SourceVPCE, "source-vpce", "", "awsSourceVpce: `id`")
	c.AddCommand(
		newRequestEncrypt(o),
		newRequestDecrypt(o),
		newRequestMetadata(o),
		newRequestHealth(o),
	)
	return c
}

// check reports flags that make no sense.
func (o *requestOptions) check() error {
	if o.repeat < 1 {
		return command.UsageError(fmt.Errorf("--repeat %d: send it at least once", o.repeat))
	}
	if o.timeout <= 0 {
		return command.UsageError(
			fmt.Errorf("--timeout %s: it must be longer than that", o.timeout),
		)
	}
	return nil
}

// metadataFor fills in what no flag gave. Every request has an id of its own.
func (o *requestOptions) metadataFor(operation, region string) xksclient.CallMetadata {
	m := o.metadata
	if m.Operation == "" {
		m.Operation = operation
	}
	if m.RequestID == "" {
		m.RequestID = uuid.NewString()
	}
	if m.KeyARN == "" {
		m.KeyARN = xksclient.ExampleKeyARN(region)
	}
	if m.PrincipalARN == "" {
		m.PrincipalARN = "arn:aws:iam::123456789012:user/xks-proxy-request"
	}
	return m
}

// asked is one request, ready to be sent again and again.
type asked struct {
	title string                                          // "encrypt with demo-key-1"
	send  func(context.Context) (*xksclient.Reply, error) // decodes and checks the answer
	rows  func(error) []text.Row                          // the last answer, for eyes
}

// perform sends it as often as asked for, prints, and chooses the exit code.
func (o *requestOptions) perform(c *cobra.Command, client *xksclient.Client, a asked) error {
	defer client.Close()
	out := c.OutOrStdout()
	reply, err := a.send(c.Context())
	if !o.json {
		printReply(out, client.To, a, reply, err)
	}
	if o.repeat > 1 {
		timings := newLatencies()
		timings.add(reply, err)
		timings.repeat(c.Context(), o.repeat-1, a.send)
		err = timings.firstError
		if o.json {
			encodeErr := json.NewEncoder(out).Encode(timings.summary())
			return errors.Join(encodeErr, withExitCode(err))
		}
		timings.print(out)
		return withExitCode(err)
	}
	if o.json && reply != nil {
		fmt.Fprintf(out, "%s\n", reply.Body)
		fmt.Fprint(c.ErrOrStderr(), xksclient.AdviceOn(err))
	}
	return withExitCode(err)
}

// withExitCode gives a missing reply another exit code than an error reply.
func withExitCode(err error) error {
	var noReply *xksclient.UnreachableError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &noReply):
		return command.ExitError{Code: ExitUnreachable, Err: err}
	}
	return command.ExitError{Code: command.ExitFailed, Err: err}
}
