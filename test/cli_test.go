package test

// The command line as operators use it: on a terminal, in a pipe, in another time zone.

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// onTerminal runs the program on a terminal of so many columns, and returns what it shows.
func onTerminal(t testing.TB, columns uint16, arguments ...string) string {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	fd := int(terminal.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: 50})
	}
	if err != nil {
		t.Fatal(err)
	}
	program := exec.Command(program, arguments...)
	program.Env = append(os.Environ(), "COLUMNS=")
	program.Stdout, err = os.OpenFile(
		fmt.Sprintf("/dev/pts/%d", number),
		os.O_RDWR|unix.O_NOCTTY,
		0,
	)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(terminal) // ends with EIO when the last user of the terminal has gone
		shown <- string(text)
	}()
	err = program.Run()
	program.Stdout.(*os.File).Close()
	if err != nil {
		t.Fatalf("%v: %v", arguments, err)
	}
	return strings.ReplaceAll(<-shown, "\r\n", "\n")
}

// Everything fits 80 columns, says no less than a pipe gets, and a pipe gets whole rows.
func TestOutputFitsTheTerminal(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	for _, line := range []string{
		"hsm list", "keys list --attributes", "credentials list", "block list", "config check", "config diff", "help hsm list",
		"request --help",
	} {
		arguments := strings.Fields(line)
		if !strings.Contains(line, "help") {
			arguments = append(arguments, "--config", p.file)
		}
		shown := onTerminal(t, 80, arguments...)
		for l := range strings.Lines(shown) {
			l = strings.TrimSuffix(l, "\n")
			if utf8.RuneCountInString(l) > 80 &&
				!strings.Contains(l, p.world.Dir) { // a path stays whole
				t.Errorf("%s: %d columns: %s", line, utf8.RuneCountInString(l), l)
			}
		}
		piped, _, _ := command(t, arguments...)
		if len(shown) < 20 || len(piped) < 20 {
			t.Errorf("%s: shows nothing: %q %q", line, shown, piped)
		}
	}
	piped, _, _ := command(t, "hsm", "list", "--config", p.file)
	row := regexp.MustCompile(`(?m)^  hsm-a .*in service.* \d+$`)
	if !row.MatchString(piped) {
		t.Errorf("not a row a line:\n%s", piped)
	}
}

// Times are UTC and say so, wherever the machine is.
func TestTimesAreUTC(t *testing.T) {
	t.Setenv("TZ", "Asia/Kolkata")
	p := newProxy(t, nil)
	_, stderr, code := command(
		t,
		"block",
		"key-store",
		"other",
		"--reason",
		"test",
		"--config",
		p.file,
	)
	if code != 0 {
		t.Fatal(stderr)
	}
	for _, line := range []string{
		"status", "status --json", "hsm list --json", "block list", "block list --json", "credentials list", "credentials list --json",
	} {
		stdout, stderr, _ := command(t, append(strings.Fields(line), "--config", p.file)...)
		wantUTC(t, line, stdout+stderr, true)
	}
	wantUTC(t, "log", p.log.tail(1000), true)
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?`)

func wantUTC(t testing.TB, what, text string, some bool) {
	t.Helper()
	found := moment.FindAllString(text, -1)
	if some && len(found) == 0 {
		t.Errorf("%s: no time at all in\n%s", what, text)
	}
	for _, one := range found {
		if !strings.HasSuffix(one, "Z") {
			t.Errorf("%s: %q is not UTC in\n%s", what, one, text)
		}
	}
}

// A key store is tried out with nothing but its name.
func TestRequestToOneKeyStore(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	p := newProxy(t, func(s *settings) { s.Server["listen"] = address })
	stdout, stderr, code := command(
		t,
		"request",
		"encrypt",
		"--config",
		p.file,
		"--key-store",
		"regional",
		"--key",
		"key",
		"--plaintext",
		"hello",
		"--json",
	)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	decrypt := exec.Command(
		program,
		"request",
		"decrypt",
		"--config",
		p.file,
		"--key-store",
		"regional",
		"--key",
		"key",
	)
	decrypt.Stdin = strings.NewReader(stdout)
	answer, err := decrypt.CombinedOutput()
	if err != nil || !strings.Contains(string(answer), "hello") {
		t.Errorf("%v\n%s", err, answer)
	}
	stdout, stderr, code = command(
		t,
		"request",
		"health",
		"--config",
		p.file,
		"--key-store",
		"blocked",
	)
	if code != 0 && !strings.Contains(stderr, "InvalidStateException") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

// XKS_ADMIN_SOCKET finds the proxy without its configuration, and completion asks it.
func TestSocketVariable(t *testing.T) {
	p := newProxy(t, nil)
	t.Setenv("XKS_ADMIN_SOCKET", p.file+".sock")
	stdout, stderr, code := command(t, "hsm", "list", "--json")
	if code != 0 || !strings.Contains(stdout, `"p50Ms"`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = command(t, "__completeNoDesc", "hsm", "drain", "")
	if code != 0 || !strings.HasPrefix(stdout, "hsm-a\nhsm-b\n:") {
		t.Errorf("exit code %d: %q", code, stdout)
	}
}
