package probe

// The command hsm probe: find out how a PKCS#11 module wants to be spoken to, and print the entry
// of hsms[] for it.

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/subprocess"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/worker"
)

const probeLong = `probe tries a PKCS#11 module and prints the entry of hsms[] that fits it, as YAML on
standard output. Progress and remarks go to standard error.

Without a token it lists the tokens that the module shows, and needs no PIN.

With a token it logs in, makes an AES-256 session key (CKA_TOKEN = false, destroyed at the
end) and finds out: who makes the IV, the form of the GCM parameters, the codes for bad
ciphertext and for a key that is gone, the longest AAD and plaintext, how many sessions
there are (at most 64 are opened), and what listing and encrypting cost. Keys on the token
are listed and not used; nothing stays on it.

The PIN is tried once. A wrong one counts on the HSM, which may lock after a few. The
module runs in a process of its own: if it crashes or hangs, the probe says at which step,
and goes on without that step.

Exit code 0: the HSM can be used, with the entry that was printed. 1: it cannot. 2: wrong usage.
3: the HSM refused the PIN.`

const probeExample = `  xks-proxy hsm probe --module /usr/lib/softhsm/libsofthsm2.so
  xks-proxy hsm probe --module libsofthsm2.so --token hsm-a --pin-file hsm-a.pin`

// probeFlags is one command line.
type probeFlags struct {
	hsm      config.HSM
	slot     string
	pinFile  string
	pinEnv   string
	ignore   bool
	timeout  time.Duration
	json     bool
	progress func(format string, args ...any)
}

// New is the command hsm probe.
func New() *cobra.Command {
	f := &probeFlags{}
	c := &cobra.Command{
		Use:     "probe --module FILE",
		Short:   "Try a PKCS#11 module and print the configuration that fits it",
		Long:    probeLong,
		Example: probeExample,
		Args:    command.NoArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			f.progress = func(format string, args ...any) {
				fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
			}
			err := f.complete()
			if err != nil {
				return command.UsageError(err)
			}
			err = worker.ForbidDumps() // the PIN is in this process's memory
			if err != nil {
				return err
			}
			if f.hsm.TokenText() == "" {
				return f.listTokens(c)
			}
			return f.probe(c)
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.hsm.Module, "module", "", "the vendor's PKCS#11 library, `FILE`")
	flags.StringVar(&f.hsm.Token, "token", "", "`LABEL` of the token")
	flags.StringVar(&f.hsm.Serial, "serial", "", "serial `NUMBER` of the token")
	flags.StringVar(&f.slot, "slot", "", "slot `NUMBER` (CK_SLOT_ID)")
	flags.StringVar(
		&f.hsm.TokenManufacturer,
		"token-manufacturer",
		"",
		"manufacturer `NAME` that the token states",
	)
	flags.StringVar(&f.hsm.TokenModel, "token-model", "", "model `NAME` that the token states")
	flags.BoolVar(
		&f.ignore,
		"ignore-initialized",
		false,
		"take a token that says that it is not initialised",
	)
	flags.StringVar(
		&f.hsm.UserType,
		"user-type",
		string(pkcs11.UserNormal),
		"`USER` that logs in: a value of user_type",
	)
	flags.StringVar(&f.pinFile, "pin-file", "", "`FILE` that holds the PIN (chmod 600)")
	flags.StringVar(&f.pinEnv, "pin-env", "", "environment variable `NAME` that holds the PIN")
	flags.StringArrayVar(
		&f.hsm.Environment,
		"environment",
		nil,
		"`NAME=value` for the module's process; may be repeated",
	)
	flags.StringVar(&f.hsm.Name, "name", "hsm-1", "`NAME` of the HSM in the entry that is printed")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "`TIME` that one step may take")
	flags.BoolVar(&f.json, "json", false, "print all that was found as JSON")
	_ = c.MarkFlagFilename("module", "so") // the flags exist
	_ = c.MarkFlagFilename("pin-file")
	return c
}

// complete checks the command line and makes paths absolute.
func (f *probeFlags) complete() error {
	if f.hsm.Module == "" {
		return errors.New("which module? Give the vendor's PKCS#11 library: --module FILE")
	}
	module, err := filepath.Abs(f.hsm.Module)
	if err != nil {
		return err
	}
	f.hsm.Module = module
	if f.slot != "" {
		n, err := strconv.ParseUint(f.slot, 0, 63)
		if err != nil {
			return fmt.Errorf("--slot %q is not a number", f.slot)
		}
		slot := int(n)
		f.hsm.Slot = &slot
	}
	if f.ignore {
		f.hsm.TokenInitialized = "ignore"
	}
	if f.pinFile != "" {
		path, err := filepath.Abs(f.pinFile)
		if err != nil {
			return err
		}
		f.hsm.PIN.File = path
	}
	f.hsm.PIN.Env = f.pinEnv
	r := schema.NewReport(&schema.Source{})
	config.ValidateEnvironment(r, "--environment", f.hsm.Environment)
	switch {
	case r.Err() != nil:
		return errors.New("--environment: give NAME=value, each name once")
	case !text.IsName(f.hsm.Name):
		return fmt.Errorf("--name %q: %s", f.hsm.Name, config.NameRule)
	case f.timeout <= 0:
		return errors.New("--timeout: give a time such as 30s")
	case f.pinFile != "" && f.pinEnv != "":
		return errors.New("the PIN is in one place: give --pin-file or --pin-env, not both")
	}
	err = pkcs11.ValidUserType(f.hsm.UserType)
	if err != nil {
		return fmt.Errorf("--user-type: %w", err)
	}
	if f.hsm.TokenText() == "" {
		return nil
	}
	if f.hsm.LogsIn() == f.hsm.PIN.IsZero() {
		if f.hsm.LogsIn() {
			return errors.New(
				"give the PIN with --pin-file FILE or --pin-env NAME; " +
					"--user-type none is for tokens that need no login",
			)
		}
		return errors.New("--user-type none means that nobody logs in: leave the PIN out")
	}
	return nil
}

// probe has a child try the token, and goes on without a step in which the module crashes.
func (f *probeFlags) probe(c *cobra.Command) error {
	pin, err := f.hsm.ReadPIN(c.Context(), "")
	if err != nil {
		return err
	}
	secret.TakeVariables(f.hsm.PIN)
	token := fleet.TokenSettings(f.hsm, pin, fleet.KeyIdentity{})
	err = token.Validate()
	if err != nil {
		return command.UsageError(err)
	}
	if f.hsm.LogsIn() {
		f.progress(
			"Warning: the PIN is tried once. A wrong one counts on the HSM, which may lock after " +
				"a few.",
		)
	}
	options := pkcs11.ProbeOptions{Config: token}
	var run probeRun
	for {
		run, err = f.runProbe(c.Context(), options)
		if err == nil || !errors.Is(err, errModuleDied) || !pkcs11.ProbeGoesOnWithout(run.step) ||
			len(options.Skip) == maxProbeSkips {
			break
		}
		f.progress("%v; trying again without this step", err)
		options.Skip = append(options.Skip, run.step)
	}
	return f.conclude(c, run, err)
}

// maxProbeSkips bounds how often a module may crash or hang.
const maxProbeSkips = 4

var errUnusable = errors.New("the HSM cannot be used as it is")

func (f *probeFlags) conclude(c *cobra.Command, run probeRun, failed error) error {
	if errors.Is(failed, subprocess.ErrInterrupted) {
		return failed
	}
	for _, remark := range run.report.Remarks {
		f.progress("- %s", remark)
	}
	switch {
	case f.json:
		err := command.WriteJSON(c.OutOrStdout(), run.report)
		if err != nil {
			return err
		}
	case run.report.Found:
		err := f.printEntry(c.OutOrStdout(), run.report)
		if err != nil {
			return err
		}
	}
	switch {
	case failed != nil:
		return failed
	case run.report.AcceptsTampered:
		return fmt.Errorf("%w: it decrypts ciphertexts that were tampered with", errUnusable)
	}
	return nil
}

// listTokens is for a command line that chooses no token.
func (f *probeFlags) listTokens(c *cobra.Command) error {
	run, err := f.runProbe(
		c.Context(),
		pkcs11.ProbeOptions{Config: pkcs11.Config{Module: f.hsm.Module}},
	)
	if err != nil {
		return err
	}
	if f.json {
		return command.WriteJSON(c.OutOrStdout(), run.tokens)
	}
	return text.Print(c.OutOrStdout(), func(p *text.Page) { printTokens(p, run.tokens) })
}
