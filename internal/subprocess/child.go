package subprocess

// This program as a child of itself, for work that must not run in a long-lived process: a PKCS#11
// module has one state for each process and may crash.

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Child is one run.
type Child struct {
	Arguments   []string
	Directory   string              // "": this process's
	Environment []string            // NAME=value, all of it
	Input       []byte              // for its standard input; the way for secrets
	Credential  *syscall.Credential // nil: as this process
	Inherited   []*os.File          // its descriptors from FirstInherited on; Run closes them
	Line        func(string)        // gets each line of its standard output at once; nil: none wanted
	Output      io.Writer           // its standard output, such as a terminal; nil: Run returns it
}

// FirstInherited is the descriptor of the first of exec.Cmd.ExtraFiles.
const FirstInherited = 3

// Run returns what the child printed, the standard output whole and of the error output the
// beginning, both trimmed.
func (c Child) Run(ctx context.Context) (string, string, error) {
	defer func() {
		for _, f := range c.Inherited {
			_ = f.Close() // the child has a copy
		}
	}()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", c.Arguments...)
	cmd.Dir = c.Directory
	cmd.ExtraFiles = c.Inherited
	cmd.Env = c.Environment
	cmd.Stdin = bytes.NewReader(c.Input)
	var out bytes.Buffer
	said := &Beginning{Limit: MaxStderrShown}
	cmd.Stdout, cmd.Stderr = &out, said
	switch {
	case c.Output != nil:
		cmd.Stdout = c.Output
	case c.Line != nil:
		cmd.Stdout = io.MultiWriter(&out, &lineWriter{line: c.Line})
	}
	// It ends with this process, which the kernel ties to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// A process group of its own: what a PKCS#11 module started in it ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL, Setpgid: true, Credential: c.Credential,
	}
	endGroup := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = endGroup
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if cmd.Process != nil {
		_ = endGroup() // mostly nobody is left
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it ended well, and what it started kept its output open
	}
	return strings.TrimSpace(out.String()), strings.TrimSpace(said.Content.String()), err
}

// lineWriter cuts what is written into lines.
type lineWriter struct {
	line func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, found := bytes.Cut(w.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		w.line(string(line))
		w.rest = rest
	}
}

// ErrInterrupted is the error of a child that was ended because its context ended.
var ErrInterrupted = errors.New("interrupted")
