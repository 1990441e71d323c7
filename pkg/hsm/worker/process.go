package worker

// The operating system's side of a process: how it is started so that it
// inherits nothing, dies with its parent, and leaves nothing behind.

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// process is a running child and the parent's end of its socket.
type process struct {
	pid    int
	mark   string // see family.go
	conn   net.Conn
	handle *os.Process
	halts  chan struct{}    // gets a value when the child was stopped; capacity 1
	halted atomic.Bool      // the child is stopped, now
	exited chan struct{}    // closed when the child was waited for and its output read
	state  *os.ProcessState // how it ended; good once exited is closed
	crash  string           // what it crashed of, as it printed itself; likewise
	err    error            // of waiting
}

// socketFD is where the process finds its end of the socket pair.
const socketFD = 3

// FirstInherited is where the process finds the first file of Config.Inherit.
const FirstInherited = socketFD + 1

// startProcess starts the command of c. The child has its socket, /dev/null and
// two pipes for its output, what c.Inherit gives, and nothing else of this process. What it prints on standard error is logged at
// the level stderr.
func startProcess(c Config, stderr zapcore.Level) (*process, error) {
	// Go opens everything close-on-exec. What this process inherited itself, from a
	// shell or a service manager, need not be. (Linux before 5.11 cannot do this: no matter.)
	_ = unix.CloseRange(socketFD, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	inherited, err := c.Inherit()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	defer closeAll(inherited)
	out, err := newOutput(c.Log, stderr)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Dir = c.Dir
	mark := newMark()
	cmd.Env = append(environment(os.Environ(), c.Env), mark)
	cmd.ExtraFiles = append([]*os.File{theirs}, inherited...) // the first extra file is socketFD
	cmd.Stdout, cmd.Stderr = out.stdout.writer, out.stderr.writer
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,        // Ctrl-C on a terminal is for the parent, which drains first
		Pdeathsig:  deathSignal, // see run
		Credential: c.Credential,
	}
	p := &process{conn: conn, mark: mark, halts: make(chan struct{}, 1), exited: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, out, started)
	err = <-started
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", c.Command[0], err), conn.Close())
	}
	return p, nil
}

// run starts the child and waits for it, all on one operating system thread.
// The kernel sends the parent-death signal when the *thread* that forked ends, not
// the process. Go ends a thread when a goroutine exits that is still locked to it, and
// somebody else's goroutine could do so on the thread that forked here. Locked for as long as
// the child lives, this thread is nobody else's; unlocked afterwards, it goes back to the pool.
func (p *process) run(cmd *exec.Cmd, out *output, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	out.begin()
	if err != nil {
		out.end()
		started <- err
		return
	}
	p.handle, p.pid = cmd.Process, cmd.Process.Pid
	started <- nil
	if p.follow() {
		// While it was not waited for, no other process can have its id or its group.
		_ = unix.Kill(-p.pid, unix.SIGKILL)
		killHelpers(p.pid, p.mark)
	}
	p.err = cmd.Wait()
	p.state = cmd.ProcessState
	out.end()
	p.crash = out.crash.String()
	close(p.exited)
}

// kill ends the child with all its threads and helpers. It does nothing to one that was
// waited for already: os.Process knows. Helpers outside the child's process group are looked for
// first, because they are nobody's children afterwards; run does the rest.
func (p *process) kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	found := helpers(p.pid, p.mark)
	_ = p.handle.Kill()
	for _, pid := range found {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// goCrashed is the exit code with which Go's runtime ends a program that crashed.
const goCrashed = 2

// end says how the child ended by itself: "crashed: SIGSEGV in C code (gcm_run)", or "closed the connection and
// ended (exit status 1)".
func (p *process) end() string {
	if p.crash != "" && p.state != nil && p.state.ExitCode() == goCrashed {
		return "crashed: " + p.crash
	}
	return fmt.Sprintf("closed the connection and ended (%s)", p.how())
}

// how says how the child ended: "exit status 2", "signal: segmentation fault".
func (p *process) how() string {
	if p.state == nil {
		return fmt.Sprintf("in an unknown way: %v", p.err)
	}
	return p.state.String()
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // the child has a copy
	}
}

// socketPair is the parent's end as a connection, and the child's as a file.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "hsm-worker")
	theirs := os.NewFile(uintptr(fds[1]), "hsm-worker")
	conn, err := net.FileConn(ours)
	closeErr := ours.Close() // conn has a copy
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cannot use a socket pair: %w", err), closeErr, theirs.Close())
	}
	return conn, theirs, nil
}

// environment is the inherited one without our own variables, plus what the
// configuration adds; of a name given twice the last counts (see exec.Cmd.Env).
func environment(inherited, added []string) []string {
	env := make([]string, 0, len(inherited)+len(added))
	for _, e := range inherited {
		if !strings.HasPrefix(e, "XKS_") {
			env = append(env, e)
		}
	}
	return append(env, added...)
}
