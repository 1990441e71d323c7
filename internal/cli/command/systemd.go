package command

// Secrets that are systemd credentials exist only inside the unit. Elsewhere a command that needs
// one says the systemd-run line that gives it the same credentials.

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/internal/text"
)

const maxUnitSize = 1 << 20 // bytes read of a unit file

// UnitPlaces are where the proxy's unit may be, what counts more last. (systemd.unit(5))
var UnitPlaces = []string{
	"/usr/lib/systemd/system/xks-proxy.service",
	"/usr/lib/systemd/system/xks-proxy.service.d/*.conf",
	"/etc/systemd/system/xks-proxy.service",
	"/etc/systemd/system/xks-proxy.service.d/*.conf",
}

// CommandLine is the key of the arguments in the context of a command.
type CommandLine struct{}

// NeedsSystemd is the advice for a command that could not read refs: the line that works, or "" if
// none of them is a systemd credential or this process has its credentials. A command that writes
// files for its user runs as that user, others as the proxy's.
func NeedsSystemd(ctx context.Context, refs []config.PlacedRef, writesFiles bool) string {
	var names []string
	for _, placed := range refs {
		if name := placed.Ref.Credential; name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 || os.Getenv(secret.CredentialsVariable) != "" {
		return ""
	}
	args, _ := ctx.Value(CommandLine{}).([]string)
	program, err := os.Executable()
	if err != nil {
		program = "xks-proxy"
	}
	unit := readUnit(UnitPlaces)
	line := []string{"systemd-run", "--pipe", "--wait", "--collect", "--quiet", "--same-dir"}
	if unit.user != "" && !writesFiles {
		line = append(line, "-p", "User="+unit.user)
	}
	for _, name := range names {
		line = append(line, "-p", unit.loads(name))
	}
	for _, variable := range overrides(os.Environ()) {
		line = append(line, "-E", variable) // systemd-run takes its value from here
	}
	line = append(append(line, program), args...)
	for i, word := range line {
		line[i] = text.ShellQuote(word)
	}
	advice := "systemd gives these credentials to the unit only. As root, this gives them to one command:\n  " +
		strings.Join(
			line,
			" ",
		)
	if unit.lacks(names) {
		advice += "\n(LoadCredential=NAME is read from /etc/credstore; where the unit names a path, write NAME:PATH)"
	}
	return advice
}

// overrides are the names of variables that this program reads.
func overrides(environ []string) []string {
	var names []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, schema.EnvironmentPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// proxyUnit is what the proxy's unit says about who it is and which credentials it has.
type proxyUnit struct {
	user        string
	credentials map[string]string // LoadCredential=… or LoadCredentialEncrypted=…, by name
}

// loads is the assignment that loads a credential.
func (u proxyUnit) loads(name string) string {
	if assignment := u.credentials[name]; assignment != "" {
		return assignment
	}
	return "LoadCredential=" + name
}

// lacks reports whether the unit does not say where one of the credentials is.
func (u proxyUnit) lacks(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return u.credentials[name] == "" })
}

// readUnit reads the unit files that match. One that cannot be read is as if it were not there.
func readUnit(patterns []string) proxyUnit {
	u := proxyUnit{credentials: map[string]string{}}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, path := range paths {
			u.read(path)
		}
	}
	return u
}

func (u *proxyUnit) read(path string) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxUnitSize))
	for lines.Scan() {
		setting, value, _ := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		switch setting {
		case "User":
			u.user = value
		case "LoadCredential", "LoadCredentialEncrypted":
			name, _, _ := strings.Cut(value, ":")
			u.credentials[name] = setting + "=" + value
		}
	}
}
