package confine

// How the parent passes a Spec to the child, and what the child does first.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Command is the first argument of a program that must call Enter.
const Command = "confined"

// Variable is the environment variable of a process that Landlock confines.
const Variable = "XKS_CONFINED"

// self is this program, even after the file on disk was replaced.
const self = "/proc/self/exe"

// Spec is how a child confines itself before anything else.
type Spec struct {
	// Kernel is the version of Landlock to use. 0 means none. The child fails if its kernel has
	// less.
	Kernel Kernel `json:"kernel"`

	// Plan is resolved (see Plan.Resolve).
	Plan Plan `json:"plan"`
}

// Arguments returns the arguments for starting this program so that it confines itself, as the Spec
// in the file descriptor fd says, and then runs this program again with arguments.
func Arguments(fd int, arguments ...string) []string {
	return append([]string{self, Command, strconv.Itoa(fd)}, arguments...)
}

// File returns the Spec as a file in memory for the child to inherit. The caller closes it.
func (s Spec) File() (*os.File, error) {
	content, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("cannot encode what a process may reach: %w", err)
	}
	fd, err := unix.MemfdCreate("confine", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make a file in memory: %w", err)
	}
	file := os.NewFile(uintptr(fd), "confine")
	_, err = file.WriteAt(content, 0) // the offset, which the child shares, stays at the beginning
	if err != nil {
		err = fmt.Errorf("cannot write to a file in memory: %w", err)
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// Enter confines this process and runs this program again, in its place, with other arguments.
// arguments are those behind Command. Enter returns only if that fails. Then the process must do
// nothing but exit.
//
// Enter always sets no_new_privs, so that no program that the process starts gains privileges by a
// set-user-ID bit or file capabilities. It gives up what root could use to get around Landlock,
// refuses setting limits of other processes, and leaves the terminal.
func Enter(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("this command is not for use by hand: the proxy starts it")
	}
	spec, err := readSpec(arguments[0])
	if err != nil {
		return err
	}
	// Never unlocked: what follows confines this thread, which becomes the process.
	runtime.LockOSThread()
	err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("cannot set no_new_privs: %w", err)
	}
	leaveTerminal()
	err = dropCapabilities()
	if err == nil {
		err = refuseLimitsOfOthers()
	}
	if err == nil && spec.Kernel > 0 {
		err = spec.restrict()
	}
	if err != nil {
		return fmt.Errorf("cannot confine the process: %w", err)
	}
	environment := os.Environ()
	if spec.Kernel > 0 {
		environment = append(environment, Variable+"=1")
	}
	err = syscall.Exec(self, append([]string{os.Args[0]}, arguments[1:]...), environment)
	return fmt.Errorf("cannot start %s again: %w", self, err)
}

// leaveTerminal leaves the controlling terminal, if there is one, for good: through it, a process
// can type commands into the shell that started the proxy (TIOCSTI). A new session (setsid) would
// do the same, but the kernel schedules by session (sched(7), autogroup), and a call would then
// take half as much processor time again.
func leaveTerminal() {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // there is none
	}
	_ = unix.IoctlSetInt(fd, unix.TIOCNOTTY, 0)
	_ = unix.Close(fd)
}

func readSpec(descriptor string) (Spec, error) {
	fd, err := strconv.Atoi(descriptor)
	if err != nil || fd < 3 {
		return Spec{}, errors.New("this command is not for use by hand: the proxy starts it")
	}
	file := os.NewFile(uintptr(fd), "confine")
	content, err := io.ReadAll(file)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read what this process may reach: %w", err)
	}
	var spec Spec
	err = json.Unmarshal(content, &spec)
	if err != nil {
		return Spec{}, fmt.Errorf("cannot read what this process may reach: %w", err)
	}
	if spec.Kernel < 0 || int(spec.Kernel) > len(handled) {
		return Spec{}, fmt.Errorf("there is no Landlock ABI %d", int(spec.Kernel))
	}
	return spec, nil
}

// restrict confines this thread.
func (s Spec) restrict() error {
	if have := ThisKernel(); have < s.Kernel {
		return fmt.Errorf("the kernel has %s; the proxy found %s when it started", have, s.Kernel)
	}
	grants := s.Plan.grants(systemTree{})
	fd, flags, err := s.Kernel.config().NewRulesetFD(s.Kernel.rules(grants)...)
	if err != nil {
		return err
	}
	if fd < 0 {
		return errors.New("the library found nothing to confine it with")
	}
	defer syscall.Close(fd)
	return ll.LandlockRestrictSelf(fd, flags)
}
