package main

// Making the proxy's own test key on the HSMs of a configuration, each in a child
// process of its own, as serve uses them. What a child needs, PIN included, comes over
// its standard input.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
)

const (
	testKeyTimeout = time.Minute // for each HSM
	testKeyVersion = 1

	testKeyAttempts = 10
	testKeyPause    = 500 * time.Millisecond // at most, before the second attempt; then more
	testKeyCommand  = "make-test-key"
)

func newCreateTestKeyCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "create-test-key [NAME]",
		Short: "Make the proxy's own test key on each HSM, where it is missing",
		Long: `create-test-key makes the key with which the proxy probes an HSM (test_key of its
group): AES-256, generated on the HSM, sensitive, not extractable, for encrypting and
decrypting. It does so on every HSM of the configuration, or on the one named. Where the key
is already, nothing is changed. The keys of two HSMs need not be equal; no key store can
reach them. A running proxy takes a new one up by itself.`,
		Example: "  xks-proxy hsm create-test-key --config /etc/xks-proxy/xks-proxy.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := configPath(path)
			if err != nil {
				return err
			}
			return createTestKeys(c.Context(), file, firstOf(args), c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration `FILE` (or set XKS_CONFIG)")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	return c
}

// createTestKeys goes on with the next HSM after one has failed.
func createTestKeys(ctx context.Context, file, only string, out io.Writer) error {
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
	takeVariables(withoutPlaces(l.config.secretRefs())...)
	var names []string
	var failed []error
	for i, h := range l.config.HSMs {
		label := keysOf(l.config, h.Name).testKey
		names = append(names, h.Name)
		if only != "" && only != h.Name {
			continue
		}
		if label == "" {
			fmt.Fprintf(out, "%s: is in no HSM group, hence needs no test key\n", h.Name)
			continue
		}
		pin := resolveSecret(ctx, l.report, pinPath(i), h.PIN)
		err := l.report.err()
		if err != nil {
			return err
		}
		refused := refusedPINs{directory: l.config.StateDirectory, log: zap.NewNop()}
		err = refused.held(h, pin)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		said, err := createTestKey(ctx, l.config.source.dir, h, pin, label)
		if err != nil {
			refused.note(h, pin, err) // does nothing unless the HSM refused the PIN
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(out, "%s: %s\n", h.Name, said)
	}
	if only != "" && !slices.Contains(names, only) {
		return fmt.Errorf("%s has no HSM named %s; %s", file, quoteName(only), didYouMean(only, names))
	}
	if len(failed) > 0 {
		return oneLine(failed)
	}
	return nil
}

// testKeyOrder is what the child is told. The PIN in it prints as redacted.
type testKeyOrder struct {
	Token pkcs11.Config `json:"token"`
	Label string        `json:"label"`
}

// createTestKey has a child do it and returns what that says.
func createTestKey(ctx context.Context, dir string, h hsmConfig, pin secret, label string) (string, error) {
	token := tokenSettings(h, pin, keyIdentity{})
	token.Sessions = 1
	err := token.Validate()
	if err != nil {
		return "", fmt.Errorf("HSM %s: %w", h.Name, err)
	}
	input, err := json.Marshal(testKeyOrder{Token: token, Label: label})
	if err != nil {
		return "", fmt.Errorf("HSM %s: %w", h.Name, err)
	}
	defer clear(input)
	ctx, cancel := context.WithTimeout(ctx, testKeyTimeout)
	defer cancel()
	said, complaint, err := child{
		arguments: []string{"hsm", testKeyCommand}, directory: dir, environment: childEnvironment(h.Environment...), input: input,
	}.run(ctx)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "", fmt.Errorf("HSM %s: no answer within %v; the key may have been made: run this again", h.Name, testKeyTimeout)
	case ctx.Err() != nil:
		return "", errInterrupted
	case err != nil:
		return "", childError(h.Name, complaint, err)
	}
	return said, nil
}

// childError is what a child complained of. A refused PIN keeps its kind.
func childError(name, complaint string, err error) error {
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == exitPINRefused {
		return &hsm.Error{HSM: name, Op: "log in", Kind: hsm.ErrPINIncorrect, Detail: complaint}
	}
	return fmt.Errorf("HSM %s: %s", name, orElse(complaint, err.Error()))
}

// exitPINRefused is how a child says that the HSM compared the PIN and found it wrong.
const exitPINRefused = 3

// newMakeTestKeyCommand is the child's side.
func newMakeTestKeyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    testKeyCommand,
		Short:  "Make one test key, as told on standard input",
		Hidden: true,
		Args:   cobra.NoArgs,
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

func (o testKeyOrder) carryOut(ctx context.Context) (string, error) {
	token, err := pkcs11.Open(ctx, o.Token)
	if err != nil {
		return "", err
	}
	said, err := o.ensure(ctx, token)
	return said, errors.Join(err, token.Close(ctx))
}

// ensure makes the key unless the token has a good one. Several proxies that share an HSM may start
// at the same moment: those that are not alone with their key look again a random time later.
func (o testKeyOrder) ensure(ctx context.Context, token *pkcs11.Token) (string, error) {
	for attempt := 1; ; attempt++ {
		said, err := o.ensureOnce(ctx, token)
		if !errors.Is(err, hsm.ErrDuplicateKey) || attempt == testKeyAttempts {
			return said, err
		}
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(testKeyPause) * int64(attempt)))):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// ensureOnce never makes a second version of a bad key: that is somebody's key.
func (o testKeyOrder) ensureOnce(ctx context.Context, token *pkcs11.Token) (string, error) {
	found, err := token.Find(ctx, o.Label)
	if err != nil {
		return "", err
	}
	there, err := hasTestKey(o.Label, found)
	if there {
		return fmt.Sprintf("has the test key %q already", o.Label), nil
	}
	if err != nil {
		return "", err
	}
	err = token.CreateLoneKey(ctx, pkcs11.NewKey{
		Label: o.Label, Version: testKeyVersion, HasVersion: true,
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("made the test key %q, version %d: AES-256, generated on the HSM, not extractable",
		o.Label, testKeyVersion), nil
}
