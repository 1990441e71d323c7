package command

// What a command line may say beside its flags, and the answer to one that says something else:
// exit code 2, the error, and the argument that was probably meant.

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"xks-proxy/internal/text"
)

// NoArguments refuses every argument.
func NoArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return UsageError(
			fmt.Errorf("unexpected argument %q: %s takes none", args[0], c.CommandPath()),
		)
	}
	return nil
}

// OneArgument wants exactly one argument, what its usage calls it.
func OneArgument(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 || args[0] == "" {
			return UsageError(fmt.Errorf("%s is missing: %s", what, c.UseLine()))
		}
		return AtMostOne(c, args)
	}
}

// AtMostOne refuses a second argument.
func AtMostOne(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return UsageError(
			fmt.Errorf("unexpected argument %q: %s takes one at a time", args[1], c.CommandPath()),
		)
	}
	return nil
}

// CommandOrHelp runs a command that only has commands below it: help, or the name that was probably
// meant.
func CommandOrHelp(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	return unknownCommand(c, args[0])
}

func unknownCommand(c *cobra.Command, name string) error {
	var known []string
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() || child.Name() == "help" {
			known = append(known, child.Name())
		}
	}
	if len(known) == 0 {
		return NoArguments(c, []string{name})
	}
	return UsageError(
		fmt.Errorf(
			"unknown command %q for %s; %s",
			name,
			c.CommandPath(),
			text.DidYouMean(name, known),
		),
	)
}

// UnknownFlag adds the flag that was probably meant.
func UnknownFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return UsageError(err)
	}
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	near := text.Near(unknown.GetSpecifiedName(), known)
	if near == "" {
		return UsageError(err)
	}
	return UsageError(fmt.Errorf("%w; did you mean --%s?", err, near))
}

// NewHelpCommand is the help command of cobra, except that an unknown topic is an error.
func NewHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  "help explains a command: what it does, its flags, examples and exit codes.",
		Example: `  xks-proxy help config check
  xks-proxy config check --help`,
		ValidArgsFunction: completeCommands,
		RunE: func(c *cobra.Command, args []string) error {
			target, rest, err := c.Root().Find(args)
			if err != nil {
				return UsageError(err)
			}
			if len(rest) > 0 {
				return unknownCommand(target, rest[0])
			}
			target.InitDefaultHelpFlag()
			target.InitDefaultVersionFlag()
			return target.Help()
		},
	}
}

func completeCommands(
	c *cobra.Command, args []string, begun string,
) ([]string, cobra.ShellCompDirective) {
	target, rest, err := c.Root().Find(args)
	if err != nil || len(rest) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, child := range target.Commands() {
		if child.IsAvailableCommand() && strings.HasPrefix(child.Name(), begun) {
			names = append(names, cobra.CompletionWithDesc(child.Name(), child.Short))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
