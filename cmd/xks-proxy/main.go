// Command xks-proxy is an external key store proxy for AWS KMS in front of HSMs.
package main

// The process: signals, the exit code, the last error.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/text"
)

// Exit codes of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	time.Local = time.UTC // on screens, in JSON and in the log
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code. ctx ends when the user
// wants the program to.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(append([]string{}, args...)) // not nil, which means os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	addCompletion(root)
	setWidth(root, text.Width(stdout))
	command, err := root.ExecuteContextC(context.WithValue(ctx, commandLine{}, args))
	if err == nil {
		return 0
	}
	failure := exitError{code: exitUsage, err: err} // whatever fails before a command runs is about the command line
	errors.As(err, &failure)
	if failure.err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), failure.err)
	}
	if failure.code == exitUsage {
		fmt.Fprintf(stderr, "Try: %s --help\n", command.CommandPath())
	}
	return failure.code
}

// exitError ends the program with an exit code. With a nil err nothing is printed:
// the command has said it already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usageError says that the command line is wrong.
func usageError(err error) error { return exitError{code: exitUsage, err: err} }

// failing gives what a command's own work returns the exit code 1, unless it has
// chosen one.
func failing(c *cobra.Command) {
	for _, child := range c.Commands() {
		failing(child)
	}
	if c.RunE == nil {
		return
	}
	work := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := work(c, args)
		var chosen exitError
		if err == nil || errors.As(err, &chosen) {
			return err
		}
		return exitError{code: exitFailed, err: err}
	}
}
