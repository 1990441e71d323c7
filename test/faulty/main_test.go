package faulty_test

// A SoftHSM token of its own for each test, behind the module, in a process of its own.

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

var module string // compiled once

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		os.Exit(runChild(path))
	}
	dir, err := os.MkdirTemp("", "faulty-test-")
	if err == nil {
		module, err = faulty.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// rig is a token, its control and the process that uses it.
type rig struct {
	*faulty.Control
	dir    string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr *bytes.Buffer
	lines  chan string
}

// newRig makes a token with the key "k" and a process that is logged in to it.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	err := os.Mkdir(filepath.Join(r.dir, "tokens"), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	conf := "directories.tokendir = " + filepath.Join(r.dir, "tokens") + "\nobjectstore.backend = file\nlog.level = ERROR\n"
	err = os.WriteFile(filepath.Join(r.dir, "conf"), []byte(conf), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r.Control, err = faulty.New(filepath.Join(r.dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := r.Close()
		if err != nil {
			t.Error(err)
		}
	})
	r.start(t)
	r.want(t, "provision", "ok")
	r.stop()
	r.start(t)
	r.enter(t)
	r.want(t, "generate k", "ok")
	return r
}

// start starts a process with the module; the test's end kills it.
func (r *rig) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command("/proc/self/exe")
	r.cmd.Env = append(os.Environ(), childVariable+"="+module, r.Env(), "SOFTHSM2_CONF="+filepath.Join(r.dir, "conf"))
	r.stderr = &bytes.Buffer{}
	r.cmd.Stderr = r.stderr
	stdin, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = r.cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(stdout)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	r.stdin, r.lines = stdin, lines
	t.Cleanup(r.stop)
}

func (r *rig) stop() {
	_ = r.cmd.Process.Kill() // it may have ended by itself
	for range r.lines {
	}
	_ = r.cmd.Wait()
}

// enter initializes, opens a session and logs in.
func (r *rig) enter(t *testing.T) {
	t.Helper()
	r.want(t, "load", "ok")
	r.want(t, "initialize", "ok")
	r.want(t, "slots", "ok 2")
	r.want(t, "open", "ok")
	r.want(t, "login", "ok")
}

// begin starts a job without waiting for its end.
func (r *rig) begin(t *testing.T, job string) {
	t.Helper()
	_, err := io.WriteString(r.stdin, job+"\n")
	if err != nil {
		t.Fatalf("%s: %v", job, err)
	}
}

const patience = 20 * time.Second

// answer waits for the end of a job; "" if the process ended instead.
func (r *rig) answer(t *testing.T) string {
	t.Helper()
	select {
	case line := <-r.lines:
		return line
	case <-time.After(patience):
		t.Fatal("no answer")
		return ""
	}
}

// silent says that no answer comes for so long.
func (r *rig) silent(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case line := <-r.lines:
		t.Fatalf("answered %q instead of hanging\n%s", line, r.stderr)
	case <-time.After(d):
	}
}

func (r *rig) do(t *testing.T, job string) string {
	t.Helper()
	r.begin(t, job)
	return r.answer(t)
}

func (r *rig) want(t *testing.T, job, want string) {
	t.Helper()
	got := r.do(t, job)
	if got != want {
		t.Fatalf("%s: %q, want %q\n%s", job, got, want, r.stderr)
	}
}

// details does a job that succeeds and gives what it told.
func (r *rig) details(t *testing.T, job string) []string {
	t.Helper()
	words := strings.Fields(r.do(t, job))
	if len(words) == 0 || words[0] != "ok" {
		t.Fatalf("%s: %v\n%s", job, words, r.stderr)
	}
	return words[1:]
}

func (r *rig) set(t *testing.T, rules ...faulty.Rule) {
	t.Helper()
	err := r.Set(rules...)
	if err != nil {
		t.Fatal(err)
	}
}

// injected says that so many faults have happened.
func (r *rig) injected(t *testing.T, want uint64) {
	t.Helper()
	got := r.Injected()
	if got != want {
		t.Errorf("%d faults injected, want %d", got, want)
	}
}
