package cli

// The root of the command line, and how its commands are grouped.

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/cli/policy"
	"xks-proxy/internal/cli/request"
	"xks-proxy/internal/text"
	"xks-proxy/internal/version"
)

const rootLong = `xks-proxy lets AWS KMS use keys that never leave your own HSMs.

It answers the AWS KMS External Key Store Proxy API over HTTPS and does the
cryptography in two or more PKCS#11 HSMs that stand in for each other.

The configuration is /etc/xks-proxy/xks-proxy.yaml, unless XKS_CONFIG, --config or an
argument names another file. The commands that talk to a running proxy find its admin
socket by --socket, XKS_ADMIN_SOCKET, or the configuration.

Exit codes: 0 for success, 1 for failure, 2 for a command line that is wrong; commands
with others list them.`

const rootExample = `  xks-proxy demo --dir demo                     see it work, on two software HSMs
  xks-proxy config check                        validate the configuration
  xks-proxy serve                               serve AWS KMS
  xks-proxy status                              see how it is doing`

const maxHelpWidth = 100 // columns

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
		Short:         "Let AWS KMS use keys that never leave your own HSMs",
		Long:          rootLong,
		Example:       rootExample,
		Version:       version.Get().Version,
		Args:          cobra.ArbitraryArgs, // CommandOrHelp says what is wrong with them
		RunE:          command.CommandOrHelp,
		SilenceUsage:  true, // an error is one sentence, not a page of usage
		SilenceErrors: true, // Run prints it
	}
	// A command that only has commands below it is named by them alone.
	root.SetUsageTemplate(strings.NewReplacer(
		"{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}",
		`Use "{{.CommandPath}} [command] --help" for more information about a command.`,
		`"{{.CommandPath}} COMMAND --help" says more about a command.`,
		".FlagUsages |", ".FlagUsagesWrapped (helpWidth $) |",
	).Replace(root.UsageTemplate()))
	root.SetHelpTemplate(strings.Replace(
		root.HelpTemplate(), "{{. | trimTrailingWhitespaces}}", "{{reflow $ .}}", 1))
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
	add(groupRun, newServeCommand(), newDemoCommand(), request.New())
	add(
		groupOperate,
		newStatusCommand(),
		newReloadCommand(),
		newBlockCommand(),
		newUnblockCommand(),
		newHSMCommand(),
		newKeysCommand(),
	)
	add(groupConfigure, newConfigCommand(), newCredentialsCommand(), policy.New())
	add(groupOther, newVersionCommand())
	root.SetHelpCommand(command.NewHelpCommand())
	root.SetHelpCommandGroupID(groupOther)
	root.SetFlagErrorFunc(command.UnknownFlag)
	root.Flags().Bool("version", false, "print the version")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetCompletionCommandGroupID(groupOther)
	worker := newHSMWorkerCommand()
	worker.Hidden = true
	root.AddCommand(worker, newManCommand(), newConfinedCommand())
	command.Failing(root)
	return root
}

// addCompletion adds cobra's command for shells, which remembers where the root writes, and has it
// refuse a shell that it does not know.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args, c.RunE = cobra.ArbitraryArgs, command.CommandOrHelp
		}
	}
}

// widthAnnotation keeps the width of the terminal at the root: cobra prints parts of the help into
// memory.
const widthAnnotation = "width"

// setWidth notes the width of the output for the help; 0 is not a terminal.
func setWidth(root *cobra.Command, width int) {
	root.Annotations = map[string]string{widthAnnotation: strconv.Itoa(width)}
}

// terminalWidth is what setWidth noted.
func terminalWidth(c *cobra.Command) int {
	width, err := strconv.Atoi(c.Root().Annotations[widthAnnotation])
	if err != nil {
		return 0
	}
	return min(width, maxHelpWidth)
}

// init: cobra keeps the functions of all templates in one map of the program.
func init() {
	cobra.AddTemplateFunc("helpWidth", helpWidth)
	cobra.AddTemplateFunc("reflow", reflow)
}

// helpWidth is how wide the flags of a command may be, in columns.
func helpWidth(c *cobra.Command) int { return cmp.Or(terminalWidth(c), maxHelpWidth) }

// reflow fits what is said about a command to the terminal.
func reflow(c *cobra.Command, s string) string {
	p := text.NewPage(terminalWidth(c))
	p.Reflow(strings.TrimRight(s, " \n"))
	return strings.TrimRight(p.String(), "\n")
}
