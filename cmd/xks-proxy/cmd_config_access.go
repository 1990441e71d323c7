package main

// The hidden command that tries files as another user, for config check --as-user.

import (
	"encoding/json"

	"github.com/spf13/cobra"

	"xks-proxy/internal/access"
)

// newTryAccessCommand is the child's side.
func newTryAccessCommand() *cobra.Command {
	return &cobra.Command{
		Use:    tryAccessCommand,
		Short:  "Try to use files, as told on standard input",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var needs []access.Need
			err := readChildOrder(c, "config check --as-user", &needs)
			if err != nil {
				return err
			}
			return json.NewEncoder(c.OutOrStdout()).Encode(tryAll(needs))
		},
	}
}
