package main

// This program as a child of itself, for what must not happen in a process that goes
// on: a PKCS#11 module has one state for each process, and may crash.

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// child is one run.
type child struct {
	arguments   []string
	directory   string   // "": this process's
	environment []string // NAME=value, beside childEnvironment
	input       []byte   // for its standard input; the way for secrets
}

// run returns what the child printed, the standard output whole and of the error output the
// beginning, both trimmed.
func (c child) run(ctx context.Context) (string, string, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", c.arguments...)
	cmd.Dir = c.directory
	cmd.Env = append(childEnvironment(), c.environment...)
	cmd.Stdin = bytes.NewReader(c.input)
	var out bytes.Buffer
	said := &boundedBuffer{limit: maxStderrShown}
	cmd.Stdout, cmd.Stderr = &out, said
	// It ends with this process, which the kernel ties to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(said.content.String()), err
}

// childEnvironment is this process's without what begins with XKS_: that is for the
// configuration. Secrets under other names are not in it any more (see takeVariables).
func childEnvironment() []string {
	var kept []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, environmentPrefix) {
			kept = append(kept, pair)
		}
	}
	return kept
}
