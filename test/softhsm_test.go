package test

// test/softhsm.sh on machines that it does not run on: another root of the file
// system, other package managers, with and without root.

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a made-up one.
type machine struct {
	root, bin string
	script    string
}

// newMachine has the programs named, each a shell script, and no others but the few
// that the script itself uses.
func newMachine(t *testing.T, programs map[string]string) machine {
	t.Helper()
	m := machine{root: t.TempDir(), bin: t.TempDir()}
	text, err := os.ReadFile("softhsm.sh")
	if err != nil {
		t.Fatal(err)
	}
	m.script = filepath.Join(m.bin, "softhsm.sh")
	moved := strings.NewReplacer("\n/usr/", "\n"+m.root+"/usr/", "\n/opt/", "\n"+m.root+"/opt/").Replace(string(text))
	writeScript(t, m.script, moved)
	for _, needed := range []string{"cat", "sed", "mkdir", "touch"} {
		path, err := exec.LookPath(needed)
		if err != nil {
			t.Fatal(err)
		}
		err = os.Symlink(path, filepath.Join(m.bin, needed))
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, body := range programs {
		writeScript(t, filepath.Join(m.bin, name), "#!/bin/sh\n"+strings.ReplaceAll(body, "ROOT", m.root)+"\n")
	}
	return m
}

func writeScript(t *testing.T, path, text string) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), 0o700)
	if err != nil {
		t.Fatal(err)
	}
}

// run returns what the script printed on its two outputs, and its exit code.
func (m machine) run(t *testing.T, environment []string, arguments ...string) (string, string, int) {
	t.Helper()
	shell := exec.Command("/bin/sh", append([]string{m.script}, arguments...)...)
	shell.Env = append([]string{"PATH=" + m.bin}, environment...)
	var stdout, stderr bytes.Buffer
	shell.Stdout, shell.Stderr = &stdout, &stderr
	err := shell.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return strings.TrimSpace(stdout.String()), stderr.String(), shell.ProcessState.ExitCode()
}

const makesModule = `echo "$0 $*" >> ROOT/log; case "$*" in *install*|*add*|*-S*) mkdir -p ROOT/usr/lib/softhsm; touch ROOT/usr/lib/softhsm/libsofthsm2.so;; esac`

func TestSoftHSMInstallation(t *testing.T) {
	root, nobody := `echo 0`, `echo 1000`
	for name, c := range map[string]struct {
		programs map[string]string
		code     int
		did      string   // lines of the log, without directories
		said     []string // parts of stderr
	}{
		"root on Debian": {map[string]string{"id": root, "apt-get": makesModule}, 0,
			"apt-get update -q\napt-get install -q -y --no-install-recommends softhsm2\n", []string{"installing it by apt-get", "+ apt-get update -q"}},
		"root on Fedora": {map[string]string{"id": root, "dnf": makesModule}, 0, "dnf install -y softhsm\n", nil},
		"root on Alpine": {map[string]string{"id": root, "apk": makesModule}, 0, "apk add softhsm\n", nil},
		"root on Arch":   {map[string]string{"id": root, "pacman": makesModule}, 0, "pacman -Sy --noconfirm softhsm\n", nil},
		"macOS":          {map[string]string{"id": nobody, "brew": makesModule}, 0, "brew install softhsm\n", nil},
		"sudo without a password": {map[string]string{"id": nobody, "apt-get": makesModule, "sudo": `shift; test "$1" = true || exec "$@"`}, 0,
			"apt-get update -q\napt-get install -q -y --no-install-recommends softhsm2\n", []string{"+ sudo -n apt-get update -q"}},
		"sudo with a password": {map[string]string{"id": nobody, "apt-get": makesModule, "sudo": `exit 1`}, 1,
			"", []string{"needs root", "sudo apt-get update -q\n", "sudo apt-get install -q -y --no-install-recommends softhsm2\n"}},
		"no sudo":            {map[string]string{"id": nobody, "dnf": makesModule}, 1, "", []string{"sudo dnf install -y softhsm\n"}},
		"no package manager": {map[string]string{"id": root}, 1, "", []string{"no package manager", "SOFTHSM2_MODULE"}},
		"a failure": {map[string]string{"id": root, "apt-get": `echo "no network"; exit 100`}, 1,
			"", []string{"no network", "that failed"}},
		"a package without the module": {map[string]string{"id": root, "apk": `true`}, 1, "", []string{"libsofthsm2.so was not found"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, c.programs)
			stdout, stderr, code := m.run(t, nil, "install")
			if code != c.code {
				t.Fatalf("exit code %d, want %d; it said:\n%s", code, c.code, stderr)
			}
			log, err := os.ReadFile(filepath.Join(m.root, "log"))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if did := strings.ReplaceAll(string(log), m.bin+"/", ""); did != c.did {
				t.Errorf("it did\n%swant\n%s", did, c.did)
			}
			for _, part := range c.said {
				if !strings.Contains(stderr, part) {
					t.Errorf("it did not say %q but\n%s", part, stderr)
				}
			}
			want := ""
			if c.code == 0 {
				want = filepath.Join(m.root, "usr/lib/softhsm/libsofthsm2.so")
			}
			if stdout != want {
				t.Errorf("printed %q, want %q", stdout, want)
			}
		})
	}
}

// TestSoftHSMQuiet: where it is there, the script prints the path and does nothing.
func TestSoftHSMQuiet(t *testing.T) {
	m := newMachine(t, map[string]string{"apt-get": `exit 9`})
	place := filepath.Join(m.root, "usr/lib64/pkcs11/libsofthsm2.so")
	err := os.MkdirAll(filepath.Dir(place), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	writeScript(t, place, "")
	for _, arguments := range [][]string{nil, {"install"}} {
		stdout, stderr, code := m.run(t, nil, arguments...)
		if stdout != place || stderr != "" || code != 0 {
			t.Errorf("%v: %q, %q, %d", arguments, stdout, stderr, code)
		}
	}
	stdout, _, code := m.run(t, []string{"SOFTHSM2_MODULE=" + m.script})
	if stdout != m.script || code != 0 {
		t.Errorf("SOFTHSM2_MODULE: %q, %d", stdout, code)
	}
	_, stderr, code := m.run(t, []string{"SOFTHSM2_MODULE=/nowhere"}, "install")
	if !strings.Contains(stderr, "/nowhere") || code != 1 {
		t.Errorf("SOFTHSM2_MODULE that is not there: %q, %d", stderr, code)
	}
	_, _, code = m.run(t, nil, "remove")
	if code != 2 {
		t.Errorf("an unknown argument: %d", code)
	}
}
