package main

// Exit codes, and the errors that choose them.

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

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
