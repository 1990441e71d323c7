package cli

// The hidden command that tries files as another user, for config check --as-user.

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"xks-proxy/internal/access"
	"xks-proxy/internal/check"
	"xks-proxy/internal/cli/command"
)

// newTryAccessCommand is the child's side.
func newTryAccessCommand() *cobra.Command {
	return &cobra.Command{
		Use:    check.TryAccessCommand,
		Short:  "Try to use the files that standard input lists",
		Hidden: true,
		Args:   command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var needs []access.Need
			err := command.ReadChildOrder(c, "config check --as-user", &needs)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(check.TryAll(needs))
		},
	}
}
