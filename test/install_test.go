package test

// docs/install.md, followed literally: its blocks of shell, in their order, on a machine of their own.

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/asroot"
)

const installDocument = "../docs/install.md"

var cleanMachine = flag.Bool("clean-machine", false, "follow docs/install.md on a clean Debian under systemd, not on a copy of this machine")

// installScript is all blocks of the document that are marked sh, each announced by its line, and
// the packages that they install.
func installScript(t *testing.T) (string, []string) {
	t.Helper()
	script := "set -eu\ncd /root/xks-proxy\n"
	open, blocks := false, 0
	number := 0
	for line := range strings.Lines(readText(t, installDocument)) {
		number++
		switch {
		case line == "```sh\n":
			script += fmt.Sprintf("echo '=== docs/install.md:%d'\n", number)
			open = true
			blocks++
		case line == "```\n":
			open = false
		case open:
			script += line
		}
	}
	if blocks < 15 {
		t.Fatalf("%d blocks, there were more", blocks)
	}
	var packages []string
	for _, install := range regexp.MustCompile(`(?m)^apt-get install (.*)$`).FindAllStringSubmatch(script, -1) {
		for _, word := range strings.Fields(install[1]) {
			if !strings.HasPrefix(word, "-") {
				packages = append(packages, word)
			}
		}
	}
	return script, packages
}

// installTree is what the document calls the tree: as much of it as make install needs.
func installTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for _, directory := range []string{"configs", "docs"} {
		err := os.CopyFS(filepath.Join(tree, directory), os.DirFS(filepath.Join("..", directory)))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"Makefile", "README.md", "CHANGELOG.md"} {
		writeFile(t, filepath.Join(tree, file), readText(t, filepath.Join("..", file)))
	}
	err := os.Mkdir(filepath.Join(tree, "bin"), 0o755)
	if err != nil {
		t.Fatal(err)
	}
	copyProgram(t, filepath.Join(tree, "bin", "xks-proxy"))
	return tree
}

// TestInstallDocument needs nothing of this machine but its packages, and leaves nothing on it. With
// -clean-machine (make install-test) it is a clean Debian that systemd boots.
func TestInstallDocument(t *testing.T) {
	t.Parallel() // a network of its own
	asroot.Needed(t, "to follow docs/install.md on a copy of this machine")
	script, packages := installScript(t)
	file := filepath.Join(t.TempDir(), "script")
	writeFile(t, file, script)
	arguments := append([]string{"install/copy.sh", installTree(t), file}, packages...)
	if *cleanMachine {
		arguments = []string{"install/clean.sh", installTree(t), file}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", arguments...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = stopLimit
	output, err := command.CombinedOutput()
	said := string(output)
	if err != nil {
		t.Fatalf("%v:\n%s", err, said[max(0, strings.LastIndex(said, "\n=== ")):])
	}
	if testing.Verbose() {
		t.Log(said)
	}
	for want, times := range map[string]int{
		`{"status":"ready"}`: 6, "2 of 2 in service": 1, "Hello World!": 1, "made the test key": 2, "Nothing is blocked.": 1, "xks-proxy.log.1": 1,
	} {
		if got := strings.Count(said, want); got < times {
			t.Errorf("%q was printed %d times, want %d:\n%s", want, got, times, said)
		}
	}
}

// The unit of make install names the paths of its prefix, and what the document names is installed.
func TestMakeInstall(t *testing.T) {
	t.Parallel()
	tree, to := installTree(t), t.TempDir()
	install := exec.Command("make", "-s", "install", "PREFIX=/usr", "DESTDIR="+to)
	install.Dir = tree
	said, err := install.CombinedOutput()
	if err != nil {
		t.Fatalf("make install: %v\n%s", err, said)
	}
	unit := readText(t, filepath.Join(to, "usr/lib/systemd/system/xks-proxy.service"))
	if !strings.Contains(unit, "\nExecStart=/usr/bin/xks-proxy serve") || strings.Contains(unit, "/usr/local") {
		t.Errorf("the unit does not follow PREFIX:\n%s", unit)
	}
	for _, path := range []string{
		"bin/xks-proxy", "share/doc/xks-proxy/install.md", "share/doc/xks-proxy/examples/xks-proxy.logrotate",
		"share/doc/xks-proxy/examples/policies/accounts.cedar", "share/bash-completion/completions/xks-proxy",
	} {
		_, err := os.Stat(filepath.Join(to, "usr", path))
		if err != nil {
			t.Error(err)
		}
	}
	err = os.Remove(filepath.Join(tree, "bin/xks-proxy"))
	if err != nil {
		t.Fatal(err)
	}
	install = exec.Command("make", "-s", "install", "DESTDIR="+to)
	install.Dir = tree
	said, err = install.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "run make build first") {
		t.Errorf("without the program: %v\n%s", err, said)
	}
}

// What the table of docs/install.md says about the unit's directories is what the unit says.
func TestInstallDocumentFitsTheUnit(t *testing.T) {
	unit, document := unitSettings(t), readText(t, installDocument)
	for _, row := range []string{
		"| `/var/lib/" + unit["StateDirectory"][0] + "` | " + unit["User"][0] + ", " + unit["StateDirectoryMode"][0] + " |",
		"| `/run/" + unit["RuntimeDirectory"][0] + "` | " + unit["User"][0] + ", " + unit["RuntimeDirectoryMode"][0] + " |",
		"`TimeoutStopSec` of the unit is " + unit["TimeoutStopSec"][0] + " seconds",
	} {
		if !strings.Contains(document, row) {
			t.Errorf("docs/install.md lacks %q", row)
		}
	}
	if !slices.Contains(unit["ExecStart"], "/usr/local/bin/xks-proxy serve --config /etc/xks-proxy/xks-proxy.yaml") {
		t.Errorf("ExecStart %q", unit["ExecStart"])
	}
}
