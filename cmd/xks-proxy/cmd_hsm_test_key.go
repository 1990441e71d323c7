package main

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

	"xks-proxy/internal/secret"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/confine"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/worker"
)

func newCreateTestKeyCommand() *cobra.Command {
	var f configFlag
	var asJSON bool
	c := &cobra.Command{
		Use:   "create-test-key [NAME]",
		Short: "Make the proxy's own test key on each HSM, where it is missing",
		Long: `create-test-key makes the key with which the proxy probes an HSM (test_key of its
group): AES-256, generated on the HSM, sensitive, not extractable, for encrypting and
decrypting. It does so on every HSM of the configuration, or on the one named. Where the key
is already, nothing is changed. The keys of two HSMs need not be equal; no key store can
reach them. A running proxy uses a new one without a restart.`,
		Example: "  xks-proxy hsm create-test-key",
		Args:    atMostOne,
		RunE: func(c *cobra.Command, args []string) error {
			file, err := f.path()
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
				err = errors.Join(writeJSON(c.OutOrStdout(), results), err)
			}
			return err
		},
	}
	f.register(c)
	c.ValidArgsFunction = onlyFirst(f.complete(configuredHSMs))
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// testKeyResult is what became of the test key on one HSM.
type testKeyResult struct {
	HSM    string `json:"hsm"`
	Result string `json:"result"` // in words
}

// createTestKeys goes on with the next HSM after one has failed, and reports each that has not.
func createTestKeys(ctx context.Context, file, only string, report func(name, result string)) error {
	err := worker.ForbidDumps() // PINs are in this process's memory
	if err != nil {
		return err
	}
	l, err := loadFile(file) // certificates and the like are of no concern here
	if err != nil {
		return err
	}
	err = l.report.err()
	if err != nil {
		return err
	}
	secret.TakeVariables(withoutPlaces(l.config.secretRefs())...)
	var names []string
	var failed []error
	for i, h := range l.config.HSMs {
		label := keysOf(l.config, h.Name).testKey
		names = append(names, h.Name)
		if only != "" && only != h.Name {
			continue
		}
		if label == "" {
			report(h.Name, "is in no HSM group, hence needs no test key")
			continue
		}
		pin := resolveSecret(ctx, l.report, pinPath(i), h.PIN)
		err := l.report.err()
		if advice := needsSystemd(ctx, pinRefs(l.config, only), false); err != nil && advice != "" {
			return fmt.Errorf("%w\n%s", err, advice)
		}
		if err != nil {
			return err
		}
		refused := refusedPINs{directory: l.config.StateDirectory, log: zap.NewNop()}
		err = refused.held(h, pin)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		said, err := createTestKey(ctx, l.config.source.dir,
			newConfinement(l.config, h, confine.ThisKernel()), pin, label)
		if err != nil {
			refused.note(h, pin, err) // does nothing unless the HSM refused the PIN
			failed = append(failed, err)
			continue
		}
		report(h.Name, said)
	}
	if only != "" && !slices.Contains(names, only) {
		return fmt.Errorf("%s has no HSM named %s; %s", file, quoteName(only), text.DidYouMean(only, names))
	}
	if len(failed) > 0 {
		return oneLine(failed)
	}
	return nil
}

// pinRefs are the references to the PINs that are needed: all, or that of one HSM.
func pinRefs(c *config, only string) []placedRef {
	var refs []placedRef
	for i, h := range c.HSMs {
		if only == "" || only == h.Name {
			refs = append(refs, placedRef{pinPath(i), h.PIN})
		}
	}
	return refs
}

// newMakeTestKeyCommand is the child's side.
func newMakeTestKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    testKeyCommand,
		Short:  "Make one test key, as told on standard input",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			var o testKeyOrder
			err := readChildOrder(c, "create-test-key", &o)
			if err != nil {
				return err
			}
			said, err := o.carryOut(c.Context())
			if err != nil {
				fmt.Fprintln(c.ErrOrStderr(), err)
				var refusal *hsm.Error
				if errors.As(err, &refusal) && wasTried(refusal) {
					return exitError{code: exitPINRefused}
				}
				return exitError{code: exitFailed} // said without this program's name, for the parent's sentence
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), said)
			return err
		},
	}
}
