package command

// The order that a child of this program reads.

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"xks-proxy/pkg/hsm/worker"
)

// ReadChildOrder is the child's side of input: it reads the order as JSON. parent is the command
// that gives such orders, for someone who starts the child by hand.
func ReadChildOrder(c *cobra.Command, parent string, order any) error {
	err := worker.ForbidDumps() // a PIN is in this process's memory
	if err != nil {
		return err
	}
	data, err := io.ReadAll(c.InOrStdin())
	if err != nil {
		return fmt.Errorf("the order cannot be read: %w", err)
	}
	defer clear(data)
	err = json.Unmarshal(data, order)
	if err != nil {
		return fmt.Errorf("this command is for %s: standard input holds no order", parent)
	}
	return nil
}
