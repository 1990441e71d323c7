package cli

// The process of one HSM: `xks-proxy hsm-worker NAME`, started by serve. The
// PKCS#11 module runs here and nowhere else.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/fleet"
	"xks-proxy/pkg/confine"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
)

func newHSMWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "hsm-worker NAME",
		Short: "Serve one HSM to the proxy that started this process",
		Long: "hsm-worker is started by serve, one for each HSM, and cannot be started by " +
			"hand:\nits configuration and PIN come over a socket. NAME is for the list of " +
			"processes.",
		Args: cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error {
			conn, err := worker.Conn()
			if err != nil {
				return err
			}
			err = worker.Serve(context.Background(), conn, openHSM)
			if err != nil {
				return command.ExitError{
					Code: command.ExitFailed,
				} // the proxy got the error and logs it
			}
			return nil
		},
	}
}

// newConfinedCommand is what the processes that load a PKCS#11 module begin as.
func newConfinedCommand() *cobra.Command {
	return &cobra.Command{
		Use:                confine.Command + " DESCRIPTOR COMMAND...",
		Short:              "Confine this process as a file descriptor says, then run a command",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			return confine.Enter(args)
		},
	}
}

// openHSM opens the token that serve described.
func openHSM(ctx context.Context, settings json.RawMessage) (hsm.Token, int, error) {
	var c pkcs11.Config
	if err := json.Unmarshal(settings, &c); err != nil {
		return nil, 0, &hsm.Error{
			Op:     "open",
			Kind:   hsm.ErrModule,
			Detail: fmt.Sprintf("the settings cannot be read: %v", err),
		}
	}
	token, err := pkcs11.Open(ctx, c)
	if err != nil {
		return nil, 0, mentionConfinement(err)
	}
	watched := fleet.NewWatchedToken(token)
	go fleet.WatchToken(watched)
	return watched, token.Info().Sessions, nil
}

// mentionConfinement adds to an error of a module that cannot even begin that files may be out of
// its reach.
func mentionConfinement(err error) error {
	var failed *hsm.Error
	if os.Getenv(confine.Variable) == "" || !errors.As(err, &failed) ||
		failed.Function != "C_Initialize" {
		return err
	}
	hinted := *failed
	hinted.Detail = strings.TrimPrefix(hinted.Detail+"; ", "; ") + fmt.Sprintf(
		"files that the module needs may be out of its reach, because its process is confined and "+
			"runs as user %d: name them in confine.paths (docs/hsms.md), and let that user read "+
			"them",
		os.Getuid())
	return &hinted
}
