package main

// The root of the command line, and how its commands are grouped.

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `xks-proxy lets AWS KMS use keys that never leave your own HSMs.

It answers the AWS KMS External Key Store Proxy API over HTTPS and does the
cryptography in two or more PKCS#11 HSMs that stand in for each other.`

const rootExample = `  xks-proxy demo --dir demo                     see it work, on two software HSMs
  xks-proxy config check /etc/xks-proxy.yaml    is the configuration good?
  xks-proxy serve --config /etc/xks-proxy.yaml  run it`

// Groups of commands in the help, in this order.
const (
	groupRun       = "run"
	groupOperate   = "operate"
	groupConfigure = "configure"
	groupOther     = "other"
)

// newRootCommand builds the whole command line.
func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "xks-proxy",
		Short:         "External key store proxy for AWS KMS in front of HSMs",
		Long:          rootLong,
		Example:       rootExample,
		Args:          cobra.ArbitraryArgs, // commandOrHelp says what is wrong with them
		RunE:          commandOrHelp,
		SilenceUsage:  true, // an error is one sentence, not a page
		SilenceErrors: true, // run prints it
	}
	// A command that only has commands below it is named by them alone.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupOperate, Title: "Operate:"},
		&cobra.Group{ID: groupConfigure, Title: "Configure:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupRun, newServeCommand(), newDemoCommand(), newRequestCommand())
	add(groupOperate, newStatusCommand(), newReloadCommand(), newBlockCommand(), newUnblockCommand(), newHSMCommand(), newKeysCommand())
	add(groupConfigure, newConfigCommand(), newCredentialsCommand(), newPolicyCommand())
	add(groupOther, newVersionCommand())
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	worker := newHSMWorkerCommand()
	worker.Hidden = true
	root.AddCommand(worker, newConfinedCommand())
	failing(root)
	return root
}

// commandOrHelp runs a command that only has commands below it: help, or the name
// that was probably meant.
func commandOrHelp(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	hint := ""
	c.SuggestionsMinimumDistance = 2 // letters that may differ
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %s?", strings.Join(near, " or "))
	}
	return usageError(fmt.Errorf("%q is no command of %s%s", args[0], c.CommandPath(), hint))
}
