package demo

// Running the demo in tests: the real program, its processes, its directory.

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/internal/testkit"
	"xks-proxy/internal/xksclient"
)

// TestMain removes the program that the tests built.
func TestMain(m *testing.M) { testkit.Main(m) }

// runningDemo is a demo that serves until it is told to stop.
type runningDemo struct {
	cmd    *exec.Cmd
	stdout string // up to "Serving until Ctrl-C."
	rest   chan string
}

func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	d := &runningDemo{cmd: testkit.Command(t, append([]string{"demo"}, args...)...), rest: make(chan string, 1)}
	var errs bytes.Buffer
	d.cmd.Stderr = &errs
	pipe, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = d.cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(pipe)
	for !strings.HasSuffix(d.stdout, "Serving until Ctrl-C.\n") {
		line, err := reader.ReadString('\n')
		d.stdout += line
		if err != nil {
			_ = d.cmd.Wait() // so that stderr is complete
			t.Fatalf("the demo ended before it served:\n%s%s", d.stdout, errs.String())
		}
	}
	go func() {
		rest, _ := io.ReadAll(reader) // whatever there is; the process may be killed
		d.rest <- string(rest)
	}()
	return d
}

// end sends a signal and waits for the end of the demo.
func (d *runningDemo) end(t *testing.T, signal syscall.Signal) (string, error) {
	t.Helper()
	err := d.cmd.Process.Signal(signal)
	if err != nil {
		t.Fatal(err)
	}
	rest := <-d.rest
	return rest, d.cmd.Wait()
}

// processesOf lists the processes whose command line or environment names dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		commandLine, _ := os.ReadFile(filepath.Join(entry, "cmdline")) // nil for a process that is gone
		environment, _ := os.ReadFile(filepath.Join(entry, "environ"))
		if bytes.Contains(commandLine, []byte(dir)) || bytes.Contains(environment, []byte(dir)) {
			found = append(found, filepath.Base(entry)+" "+strings.ReplaceAll(string(commandLine), "\x00", " "))
		}
	}
	return found
}

func wantNothingRunning(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := processesOf(t, dir)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still running: %q", left)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// wantFree waits for a port: a process that is killed vanishes from /proc a moment
// before its sockets close.
func wantFree(t *testing.T, address string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		l, err := net.Listen("tcp", address)
		if err == nil {
			_ = l.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the port is not free: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func staged(t *testing.T) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(demoStageDirectory, "xks-proxy-demo-*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func readDemo(t *testing.T, dir string) *xksclient.ConnectionFile {
	t.Helper()
	c, err := xksclient.ReadConnectionFile(filepath.Join(dir, "connection.json"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func demoSecrets(t *testing.T, dir string, to *xksclient.ConnectionFile) []string {
	t.Helper()
	secrets := []string{to.Credential.SecretAccessKey}
	for _, name := range []string{"hsm-a/pin", "hsm-a/so-pin", "hsm-b/pin", "hsm-b/so-pin"} {
		secrets = append(secrets, strings.TrimSpace(testkit.ReadFile(t, filepath.Join(dir, name))))
	}
	return secrets
}
