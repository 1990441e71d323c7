package cli

// Making the proxy's own test key on the HSMs of a configuration, each in a child
// process of its own, as serve uses them. What a child needs, PIN included, comes over
// its standard input.

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/confine"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/worker"
)

func newCreateTestKeyCommand() *cobra.Command {
	var f command.ConfigFlag
	var asJSON bool
	c := &cobra.Command{
		Use:   "create-test-key [NAME]",
		Short: "Create the proxy's own test key on each HSM that lacks it",
		Long: `create-test-key makes the key with which the proxy probes an HSM (test_key of its
group): AES-256, generated on the HSM, sensitive, not extractable, for encrypting and
decrypting. It does so on every HSM of the configuration, or on the one named. If an HSM has
the key already, nothing changes. Two HSMs may have different test keys, and no key store can
reach them. A running proxy uses a new one without a restart.`,
		Example: "  xks-proxy hsm create-test-key",
		Args:    command.AtMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			file, err := f.Path()
			if err != nil {
				return err
			}
			results := []testKeyResult{}
			err = createTestKeys(c.Context(), file, firstOf(args), func(name, result string) {
				results = append(results, testKeyResult{HSM: name, Result: result})
				if !asJSON {
					fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", name, result)
				}
			})
			if asJSON {
				err = errors.Join(command.WriteJSON(c.OutOrStdout(), results), err)
			}
			return err
		},
	}
	f.Register(c)
	c.ValidArgsFunction = command.OnlyFirst(f.Complete(command.ConfiguredHSMs))
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// testKeyResult is what became of the test key on one HSM.
type testKeyResult struct {
	HSM    string `json:"hsm"`
	Result string `json:"result"` // in words
}

// createTestKeys goes on with the next HSM after one has failed, and reports each that has not.
func createTestKeys(
	ctx context.Context,
	file, only string,
	report func(name, result string),
) error {
	err := worker.ForbidDumps() // PINs are in this process's memory
	if err != nil {
		return err
	}
	l, err := config.LoadFile(file) // certificates and the like are of no concern here
	if err != nil {
		return err
	}
	err = l.Report.Err()
	if err != nil {
		return err
	}
	secret.TakeVariables(config.WithoutPlaces(l.Config.SecretRefs())...)
	var names []string
	var failed []error
	for i, h := range l.Config.HSMs {
		label := fleet.KeysOf(l.Config, h.Name).TestKey
		names = append(names, h.Name)
		if only != "" && only != h.Name {
			continue
		}
		if label == "" {
			report(h.Name, "is in no HSM group, hence needs no test key")
			continue
		}
		pin := config.ResolveSecret(ctx, l.Report, config.PINPath(i), h.PIN)
		err := l.Report.Err()
		if advice := command.NeedsSystemd(ctx, pinRefs(l.Config, only), false); err != nil &&
			advice != "" {
			return fmt.Errorf("%w\n%s", err, advice)
		}
		if err != nil {
			return err
		}
		refused := fleet.RefusedPINs{Directory: l.Config.StateDirectory, Log: zap.NewNop()}
		err = refused.Held(h, pin)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		said, err := fleet.CreateTestKey(ctx, l.Config.Source.Dir,
			fleet.NewConfinement(l.Config, h, confine.ThisKernel()), pin, label)
		if err != nil {
			refused.Note(h, pin, err) // does nothing unless the HSM refused the PIN
			failed = append(failed, err)
			continue
		}
		report(h.Name, said)
	}
	if only != "" && !slices.Contains(names, only) {
		return fmt.Errorf(
			"%s has no HSM named %s; %s",
			file,
			schema.QuoteName(only),
			text.DidYouMean(only, names),
		)
	}
	if len(failed) > 0 {
		return fleet.OneLine(failed)
	}
	return nil
}

// pinRefs are the references to the PINs that are needed: all, or that of one HSM.
func pinRefs(c *config.Config, only string) []config.PlacedRef {
	var refs []config.PlacedRef
	for i, h := range c.HSMs {
		if only == "" || only == h.Name {
			refs = append(refs, config.PlacedRef{Path: config.PINPath(i), Ref: h.PIN})
		}
	}
	return refs
}

// newMakeTestKeyCommand is the child's side.
func newMakeTestKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    fleet.TestKeyCommand,
		Short:  "Make one test key as the order on standard input says",
		Hidden: true,
		Args:   command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var o fleet.TestKeyOrder
			err := command.ReadChildOrder(c, "create-test-key", &o)
			if err != nil {
				return err
			}
			said, err := o.CarryOut(c.Context())
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), err)
				var refusal *hsm.Error
				if errors.As(err, &refusal) && fleet.WasTried(refusal) {
					return command.ExitError{Code: fleet.ExitPINRefused}
				}
				return command.ExitError{
					Code: command.ExitFailed,
				} // said without this program's name, for the parent's sentence
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), said)
			return err
		},
	}
}
