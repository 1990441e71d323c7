package cli

// One run of the command line.

import (
	"context"
	"errors"
	"fmt"
	"io"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/text"
)

// Run executes one command line and returns its exit code. ctx ends when the user
// wants the program to.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(append([]string{}, args...)) // not nil, which means os.Args
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	addCompletion(root)
	setWidth(root, text.Width(stdout))
	ran, err := root.ExecuteContextC(context.WithValue(ctx, command.CommandLine{}, args))
	if err == nil {
		return 0
	}
	failure := command.ExitError{
		Code: command.ExitUsage,
		Err:  err,
	} // whatever fails before a command runs is about the command line
	errors.As(err, &failure)
	if failure.Err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), failure.Err)
	}
	if failure.Code == command.ExitUsage {
		fmt.Fprintf(stderr, "Try: %s --help\n", ran.CommandPath())
	}
	return failure.Code
}
