package cli

// What all commands have in common: the whole tree of commands is asked.

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
	"xks-proxy/internal/version"
)

// visibleCommands are all commands that help shows, cobra's own included, by their path without the
// program.
func visibleCommands(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	root := newRootCommand()
	root.InitDefaultHelpCmd()
	addCompletion(root)
	found := map[string]*cobra.Command{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			if !child.Hidden {
				found[strings.TrimPrefix(child.CommandPath(), root.Name()+" ")] = child
				walk(child)
			}
		}
	}
	walk(root)
	if len(found) < 40 {
		t.Fatalf("only %d commands are found", len(found))
	}
	return found
}

// Wrong usage is exit code 2, says how to get help, and does nothing.
func TestEveryCommandRefusesWhatItDoesNotKnow(t *testing.T) {
	testkit.ConfigDir(t)
	anyNumber := []string{"help", "policy check"}
	for path, c := range visibleCommands(t) {
		lines := []string{path + " --nonsense"}
		switch {
		case c.HasSubCommands():
			lines = append(lines, path+" nonsense", "help "+path+" nonsense")
		case !slices.Contains(anyNumber, path):
			lines = append(lines, path+" a b c d")
		}
		for _, line := range lines {
			stdout, stderr, code := execute(t, strings.Fields(line)...)
			if code != command.ExitUsage || stdout != "" ||
				!strings.Contains(stderr, "\nTry: xks-proxy ") ||
				!strings.HasPrefix(stderr, "xks-proxy: ") {
				t.Errorf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
			}
		}
	}
}

// Each command that prints data prints it as JSON, too.
func TestEveryDataCommandHasJSON(t *testing.T) {
	without := map[string]string{
		"serve":            "prints its log",
		"demo":             "shows what it does, step by step",
		"help":             "is for people",
		"config reference": "prints documentation; config schema is its JSON",
		"config schema":    "is JSON",
		"config example":   "prints a configuration file",
		"config show":      "prints a configuration file",
	}
	for path, c := range visibleCommands(t) {
		_, excused := without[path]
		excused = excused || strings.HasPrefix(path, "completion") || c.HasSubCommands()
		has := c.Flag("json") != nil
		if !has && !excused {
			t.Errorf("%s has no --json", path)
		}
		if has && without[path] != "" {
			t.Errorf("%s has --json, and is excused", path)
		}
	}
}

// Each command that needs the configuration has --config, and takes it as an argument if it has no
// other.
func TestEveryCommandTakesTheConfiguration(t *testing.T) {
	without := []string{
		"help", "version", "demo", "policy check", "hsm probe", "config reference", "config schema", "config example",
	}
	ownArgument := []string{"NAME", "KEY", "FILE", "SECRET-FILE", "[NAME]"}
	for path, c := range visibleCommands(t) {
		if c.HasSubCommands() || strings.HasPrefix(path, "completion") ||
			slices.Contains(without, path) {
			continue
		}
		if c.Flag("config") == nil {
			t.Errorf("%s has no --config", path)
		}
		_, argument, _ := strings.Cut(c.Use, " ")
		if argument != "[FILE]" && !slices.Contains(ownArgument, argument) &&
			!strings.HasPrefix(path, "request ") {
			t.Errorf("%s takes neither FILE nor an argument of its own: %q", path, c.Use)
		}
	}
}

func TestVersionFlag(t *testing.T) {
	stdout, stderr, code := execute(t, "--version")
	if code != 0 || stderr != "" || stdout != "xks-proxy "+version.Get().Version+"\n" {
		t.Errorf("exit code %d, %q %q", code, stdout, stderr)
	}
}

// otherPlaces gives the test a default configuration and socket of its own.
func otherPlaces(t *testing.T) (string, string) {
	t.Helper()
	dir := t.TempDir()
	oldConfig, oldSocket := command.DefaultConfigFile, command.DefaultSocket
	t.Cleanup(func() { command.DefaultConfigFile, command.DefaultSocket = oldConfig, oldSocket })
	command.DefaultConfigFile = filepath.Join(dir, "default.yaml")
	command.DefaultSocket = filepath.Join(dir, "default.sock")
	for _, variable := range []string{schema.ConfigVariable, schema.SocketVariable} {
		t.Setenv(variable, "") // so that it is put back
		err := os.Unsetenv(variable)
		if err != nil {
			t.Fatal(err)
		}
	}
	return command.DefaultConfigFile, command.DefaultSocket
}

func TestConfigPlaces(t *testing.T) {
	standard, _ := otherPlaces(t)
	wantPath := func(f command.ConfigFlag, want string) {
		t.Helper()
		got, err := f.Path()
		if err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	_, err := (&command.ConfigFlag{}).Path()
	if err == nil ||
		err.Error() != "no configuration file: "+standard+" does not exist; name one with --config, or set XKS_CONFIG" {
		t.Errorf("%v", err)
	}
	testkit.WriteFile(t, standard, "", 0o644)
	wantPath(command.ConfigFlag{}, standard)
	t.Setenv(schema.ConfigVariable, "from-environment.yaml")
	wantPath(command.ConfigFlag{}, "from-environment.yaml")
	wantPath(command.ConfigFlag{File: "given.yaml"}, "given.yaml")
}

// --socket, XKS_ADMIN_SOCKET, the configuration, the default: in this order. A configuration that is
// named and cannot be read is an error: the order could reach another proxy.
func TestSocketPlaces(t *testing.T) {
	standard, socket := otherPlaces(t)
	testkit.ConfigDir(t)
	testkit.WriteFile(t, "good.yaml", "admin: {socket: /run/good.sock}\n"+testkit.ValidConfig(t), 0o644)
	testkit.WriteFile(t, "broken.yaml", ":", 0o644)
	testkit.WriteFile(t, "mistaken.yaml", "admin: {socket: /run/good.sock}\nserver: {listen: 17}\n", 0o644)
	want := func(f command.ProxyFlags, want string) {
		t.Helper()
		got, err := f.FindSocket()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	named := func(file string) command.ProxyFlags {
		return command.ProxyFlags{ConfigFlag: command.ConfigFlag{File: file}}
	}
	want(command.ProxyFlags{}, socket)
	want(named("good.yaml"), "/run/good.sock")
	want(named("mistaken.yaml"), "/run/good.sock")
	want(named("broken.yaml"), "")
	want(named("none.yaml"), "")
	testkit.WriteFile(t, standard, ":", 0o644)
	want(command.ProxyFlags{}, socket)
	testkit.WriteFile(t, standard, "admin: {socket: /run/standard.sock}\n", 0o644)
	want(command.ProxyFlags{}, "/run/standard.sock")
	t.Setenv(schema.ConfigVariable, "broken.yaml")
	want(command.ProxyFlags{}, "")
	t.Setenv(schema.ConfigVariable, "good.yaml")
	want(command.ProxyFlags{}, "/run/good.sock")
	t.Setenv(schema.SocketVariable, "relative.sock")
	want(command.ProxyFlags{}, "")
	t.Setenv(schema.SocketVariable, "/run/variable.sock")
	want(named("good.yaml"), "/run/variable.sock")
	want(command.ProxyFlags{Socket: "given.sock"}, "given.sock")
}

// A time span in JSON has its unit in its name, in every struct of the program.
func TestDurationsInJSONNameTheirUnit(t *testing.T) {
	spans := map[string]string{
		"time.Duration":    "Ns",
		"hsm.Milliseconds": "Ms",
		"Milliseconds":     "Ms",
	}
	seen := 0
	err := filepath.WalkDir("../..", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") ||
			strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			name, _, _ := strings.Cut(
				reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"),
				",",
			)
			unit, span := spans[typeName(field.Type)]
			if !span || name == "" || name == "-" {
				return true
			}
			seen++
			if !strings.HasSuffix(name, unit) {
				t.Errorf("%s: the JSON name %q does not end with its unit, %s", path, name, unit)
			}
			return true
		})
		return nil
	})
	if err != nil || seen < 5 {
		t.Errorf("%d fields, %v", seen, err)
	}
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	}
	return ""
}

// The help of every command fits a terminal of 80 columns.
func TestHelpFitsTheTerminal(t *testing.T) {
	for path := range visibleCommands(t) {
		var shown bytes.Buffer
		root := newRootCommand()
		root.SetOut(&shown)
		addCompletion(root)
		setWidth(root, 80)
		root.SetArgs(append(strings.Fields(path), "--help"))
		err := root.ExecuteContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(shown.String()) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}

// docs/commands.md lists every command.
func TestEveryCommandIsDocumented(t *testing.T) {
	document, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, c := range visibleCommands(t) {
		if !c.HasSubCommands() && !bytes.Contains(document, []byte("`"+path+" ")) &&
			!bytes.Contains(document, []byte("`"+path+"`")) {
			t.Errorf("docs/commands.md does not name %s", path)
		}
	}
}

// A digest behind a blank would be taken for a configuration, and everything would be accepted.
func TestReloadTakesNoDigestBehindABlank(t *testing.T) {
	for _, line := range []string{
		"reload --accept-loosening 3f9ab2c41d0766e1 --socket none.sock",
		"reload 3f9ab2c41d0766e1 --accept-loosening --socket none.sock",
	} {
		_, stderr, code := execute(t, strings.Fields(line)...)
		if code != command.ExitUsage || !strings.Contains(stderr, "a digest is joined to its flag") {
			t.Errorf("%s: exit code %d, %s", line, code, stderr)
		}
	}
}
