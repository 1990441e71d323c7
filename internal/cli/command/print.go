package command

// What several commands print.

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/internal/config/schema"
)

// WriteJSON prints a value as JSON with indents, and a line feed.
func WriteJSON(out io.Writer, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n", text)
	return err
}

// PrintWarnings prints the warnings about a configuration on standard error, a line each.
func PrintWarnings(c *cobra.Command, warnings []schema.Warning) {
	for _, w := range warnings {
		fmt.Fprintf(c.ErrOrStderr(), "warning: %s\n", w)
	}
}
