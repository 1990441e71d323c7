package main

// One run of the command line.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"xks-proxy/internal/text"
)

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
	ran, err := root.ExecuteContextC(context.WithValue(ctx, commandLine{}, args))
	if err == nil {
		return 0
	}
	failure := exitError{code: exitUsage, err: err} // whatever fails before a command runs is about the command line
	errors.As(err, &failure)
	if failure.err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", root.Name(), failure.err)
	}
	if failure.code == exitUsage {
		fmt.Fprintf(stderr, "Try: %s --help\n", ran.CommandPath())
	}
	return failure.code
}
