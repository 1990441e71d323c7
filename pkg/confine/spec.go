package confine

// How the parent tells the child, and what the child does first.

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

// Command is the first argument of a program that is to call Enter.
const Command = "confined"

// Variable is set in the environment of a process that Landlock confines.
const Variable = "XKS_CONFINED"

// self is this program, even after the file on disk was replaced.
const self = "/proc/self/exe"

// Spec is what a child is to do before anything else.
type Spec struct {
	// Kernel is what to use of Landlock. 0: nothing. The child fails if its kernel has less.
	Kernel Kernel `json:"kernel"`

	// Plan is resolved (see Plan.Resolve).
	Plan Plan `json:"plan"`
}

// Arguments are what this program is started with, so that it confines itself as told by the file
// descriptor fd and then becomes this program with arguments.
func Arguments(fd int, arguments ...string) []string {
	return append([]string{self, Command, strconv.Itoa(fd)}, arguments...)
}

// File is the order as a file in memory, for the child to inherit. The caller closes it.
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

// Enter confines this process and becomes this program again with other arguments. arguments are
// what follows Command. It returns only if that fails; then nothing may be done in this process.
//
// Whatever the order says, no_new_privs is set, so that no program that the process starts gains
// privileges by a set-user-ID bit or file capabilities. What root could use to reach around
// Landlock is given up, limits of other processes cannot be set, and the terminal is left.
func Enter(arguments []string) error {
	if len(arguments) < 2 {
		return errors.New("this command is not for use by hand: the proxy starts it")
	}
	spec, err := readSpec(arguments[0])
	if err != nil {
		return err
	}
	// Never unlocked: what follows is about this thread, which becomes the process.
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

// leaveTerminal leaves the controlling terminal, if there is one, for good: with it a process types
// orders into the shell from which the proxy was started (TIOCSTI). A session of its own (setsid)
// would do the same, but the kernel shares processors out by sessions (sched(7), autogroup), and a
// call then takes half as much processor time again.
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
