package policy

// The policy command: check policies, and try them on cases or on requests out of
// the log, without serving anything.

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/guarded"
	"xks-proxy/internal/text"
	"xks-proxy/pkg/authz"
	"xks-proxy/pkg/xks"
)

// New is the policy command with its two, check and test.
func New() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "Check policies and test them on requests",
		Long: `A key store can have policies that say who in AWS may use its keys. "check" says
whether their files are good; "test" asks them about requests, and changes nothing.`,
		Args: cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE: command.CommandOrHelp,
	}
	c.AddCommand(newPolicyCheckCommand(), newPolicyTestCommand())
	return c
}

func newPolicyCheckCommand() *cobra.Command {
	var asJSON bool
	var f command.ConfigFlag
	c := &cobra.Command{
		Use:   "check PATH...",
		Short: "Validate policy files and report every error",
		Long: `check reads policy files, and directories of *.cedar files, as one set, and checks them against
the schema. Warnings are about policies that work and are probably not meant. With --config, the
key stores and keys that they name must be in that configuration.

Exit code 0: good, perhaps with warnings. 1: they are not. 2: wrong usage.`,
		Example: "  xks-proxy policy check /etc/xks-proxy/policies/payroll",
		Args:    policyPaths,
		RunE: func(c *cobra.Command, args []string) error {
			policies, err := loadGivenPolicies(c.ErrOrStderr(), args)
			if err == nil && f.File != "" {
				err = checkAgainst(c, f.File, policies)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return command.WriteJSON(
					c.OutOrStdout(),
					map[string]int{"policies": policies.Len()},
				)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "ok: %d in the set\n", policies.Len())
			return err
		},
	}
	c.Flags().StringVar(&f.File, "config", "", "check names against this configuration `FILE`, too")
	_ = c.MarkFlagFilename("config", "yaml", "yml") // the flag exists
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// policyPaths wants at least one argument.
func policyPaths(c *cobra.Command, args []string) error {
	if len(args) == 0 || slices.Contains(args, "") {
		return command.UsageError(
			fmt.Errorf("which policies? Name files or directories: %s", c.UseLine()),
		)
	}
	return nil
}

// checkAgainst checks the names in policies that a configuration does not name yet, such as drafts.
func checkAgainst(c *cobra.Command, path string, policies *authz.Policies) error {
	l, err := config.LoadFile(path)
	if err != nil {
		return err
	}
	err = l.Report.Err()
	if err != nil {
		return err
	}
	r := schema.NewReport(l.Config.Source)
	config.CheckPolicyNames(r, config.PolicyNames(l.Config), "", policies)
	err = r.Err()
	var faults *schema.Error
	if errors.As(err, &faults) {
		faults.File = "the set of policies" // the configuration is good
	}
	if err != nil {
		return err
	}
	command.PrintWarnings(c, r.Warnings)
	return nil
}

// policyTest holds the flags of `policy test`.
type policyTest struct {
	command.ConfigFlag
	keyStore string
	policies []string
	cases    string // file; "-": standard input
	json     bool
}

func newPolicyTestCommand() *cobra.Command {
	var test policyTest
	c := &cobra.Command{
		Use:   "test FILE",
		Short: "Test policies on cases or on requests from the log",
		Long: `test decides the requests in FILE ("-" is standard input): JSON objects, one a line, that are
lines of the proxy's log or cases of your own with the expected decision (docs/policies.md).
It prints the decision on each, the policies that made it, and whether it is as expected.

The policies are those of a key store of the configuration, or those that --policies names.
It always decides as in enforce mode. With a key store, log lines of other key stores are
skipped, and owner and label come from the configuration if a case has none. No secret is read.

Exit code 0: every expectation is met. 1: one is not, or policies or cases cannot be read.
2: wrong usage.`,
		Example: `  xks-proxy policy test payroll.cases.jsonl --key-store payroll
  grep AccessDenied xks-proxy.log | xks-proxy policy test - --policies new/`,
		Args: command.OneArgument("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			test.cases = args[0]
			return test.run(c)
		},
	}
	test.ConfigFlag.Register(c)
	c.Flags().BoolVar(&test.json, "json", false, "print JSON")
	c.Flags().
		StringVar(&test.keyStore, "key-store", "", "`NAME` of the key store (needed if there are several)")
	command.CompleteFlag(c, "key-store", test.Complete(command.ConfiguredKeyStores))
	c.Flags().
		StringArrayVar(&test.policies, "policies", nil, "policy file or directory, instead of a key store's; may be repeated")
	return c
}

func (t policyTest) run(c *cobra.Command) error {
	policies, at, err := t.load(c)
	if err != nil {
		return err
	}
	var results authz.Results
	if t.cases == "-" {
		results, err = authz.RunCases(policies, at, c.InOrStdin())
	} else {
		results, err = authz.RunCaseFile(policies, at, t.cases)
	}
	if err != nil {
		return err
	}
	if t.json {
		err = command.WriteJSON(
			c.OutOrStdout(),
			policyResults{results.Rows(), results.Failures(), results.Skipped},
		)
	} else {
		err = text.Print(c.OutOrStdout(), func(p *text.Page) { printPolicyResults(p, results) })
	}
	if err != nil {
		return err
	}
	if results.Failures() > 0 {
		return command.ExitError{Code: command.ExitFailed} // the table says which
	}
	return nil
}

// policyResults are the results of `policy test` as JSON.
type policyResults struct {
	Cases   []authz.Row `json:"cases"`
	Failed  int         `json:"failed"`
	Skipped int         `json:"passedOver"` // entries that are not decisions of policies
}

func printPolicyResults(p *text.Page, results authz.Results) {
	t := text.NewTable("RESULT", "CASE", "DECISION", "WHY")
	for _, row := range results.Rows() {
		t.Row(row.Result, row.Case, row.Decision, row.Why)
	}
	p.Table(t)
	p.Printf("\n%s, %d failed; %d other entries skipped\n",
		text.Plural(len(results.Cases), "case"), results.Failures(), results.Skipped)
}

func (t policyTest) load(c *cobra.Command) (*authz.Policies, authz.KeyStore, error) {
	if len(t.policies) == 0 {
		return t.loadConfigured(c)
	}
	if t.File != "" || t.keyStore != "" {
		return nil, authz.KeyStore{}, command.UsageError(
			errors.New("--policies names the policies; leave --config and --key-store out"),
		)
	}
	policies, err := loadGivenPolicies(c.ErrOrStderr(), t.policies)
	return policies, authz.KeyStore{}, err
}

// loadConfigured reads no more of the configuration than the policies: certificate, secrets and
// modules are elsewhere.
func (t policyTest) loadConfigured(c *cobra.Command) (*authz.Policies, authz.KeyStore, error) {
	path, err := t.Path()
	if err != nil {
		return nil, authz.KeyStore{}, err
	}
	l, err := config.LoadFile(path)
	if err != nil {
		return nil, authz.KeyStore{}, err
	}
	err = l.Report.Err()
	if err != nil {
		return nil, authz.KeyStore{}, err
	}
	store, err := command.ChooseKeyStore(l.Config, t.keyStore)
	if err != nil {
		return nil, authz.KeyStore{}, err
	}
	if len(store.Policy.Files) == 0 {
		return nil, authz.KeyStore{}, fmt.Errorf(
			"key store %s has no policy: every request that AWS KMS signs is served",
			store.Name,
		)
	}
	r := schema.NewReport(l.Config.Source)
	i := slices.IndexFunc(
		l.Config.KeyStores,
		func(k config.KeyStore) bool { return k.Name == store.Name },
	)
	at := config.PolicyFilesKey(i)
	policies := config.LoadPolicyFiles(r, at, store.Policy.Files)
	if policies != nil && config.CheckPolicyNames(r, config.PolicyNames(l.Config), at, policies) {
		config.CheckPolicyPermits(r, at, store.Name, policies)
	}
	err = r.Err()
	if err != nil {
		return nil, authz.KeyStore{}, err
	}
	command.PrintWarnings(c, r.Warnings)
	label := func(keyID string) string { return strings.Replace(store.Keys.Label, xks.KeyIDPlaceholder, keyID, 1) }
	return policies, authz.KeyStore{Name: store.Name, Owner: store.Owner, Label: label}, nil
}

// loadGivenPolicies is for files named on the command line. Who can change them does not matter
// here: they may be drafts.
func loadGivenPolicies(warnings io.Writer, paths []string) (*authz.Policies, error) {
	for _, path := range paths {
		_, err := os.Stat(path)
		if err != nil {
			return nil, guarded.Problem(path, err)
		}
	}
	policies, found, err := authz.Load(paths...)
	if err != nil {
		return nil, fmt.Errorf(
			"the policies are not valid:\n  %s",
			strings.ReplaceAll(err.Error(), "\n", "\n  "),
		)
	}
	for _, w := range found {
		fmt.Fprintf(warnings, "warning: %s\n", w.Error())
	}
	return policies, nil
}
