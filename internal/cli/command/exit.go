package command

// Exit codes, and the errors that choose them.

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// ExitError ends the program with an exit code. With a nil err nothing is printed:
// the command has said it already.
type ExitError struct {
	Code int
	Err  error
}

func (e ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e ExitError) Unwrap() error { return e.Err }

// UsageError says that the command line is wrong.
func UsageError(err error) error { return ExitError{Code: ExitUsage, Err: err} }

// Failing gives what a command's own work returns the exit code 1, unless it has
// chosen one.
func Failing(c *cobra.Command) {
	for _, child := range c.Commands() {
		Failing(child)
	}
	if c.RunE == nil {
		return
	}
	work := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		err := work(c, args)
		var chosen ExitError
		if err == nil || errors.As(err, &chosen) {
			return err
		}
		return ExitError{Code: ExitFailed, Err: err}
	}
}
