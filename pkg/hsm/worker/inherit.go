package worker

// What a process does first: find its socket, and put off what it must not do.

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is the socket that the parent handed down (file descriptor 3). The error
// says that there is none: the command was started by hand.
func Conn() (net.Conn, error) {
	family, err := unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil || family != unix.AF_UNIX {
		return nil, errors.New("this command is not for use by hand: the proxy starts it, one process for each HSM, with a socket as file descriptor 3")
	}
	unix.CloseOnExec(socketFD) // a library of the vendor may start programs
	file := os.NewFile(socketFD, "parent")
	conn, err := net.FileConn(file)
	closeErr := file.Close() // conn has a copy
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot use the socket of the parent: %w", err), closeErr)
	}
	return conn, nil
}

// ignoreSignals leaves it to the parent when the process ends: it drains first. A
// service manager sends SIGTERM to all processes of a service at once.
func ignoreSignals() {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// deathSignal is what the kernel sends a process when its parent has died. SIGKILL would leave the
// helpers of the vendor's library behind, which only the process knows by then. A process that has
// not come as far as to heed the signal is ended by it.
const deathSignal = syscall.SIGUSR2

// dieWithParent ends the process, helpers included, when its parent is gone. The end of the socket
// does the same; each is enough.
func dieWithParent() {
	dead := make(chan os.Signal, 1)
	signal.Notify(dead, deathSignal)
	go func() {
		<-dead
		endOrphan()
	}()
	go goOnWithoutParent()
}

// goOnWithoutParent has the kernel continue a process that is stopped when its parent dies, so that
// it heeds deathSignal. Each thread has a parent-death signal of its own (prctl(2)): this one's is
// SIGCONT, and the thread is kept for that.
func goOnWithoutParent() {
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGCONT), 0, 0, 0)
	if err != nil {
		return // the thread ends with its goroutine
	}
	select {}
}

// endOrphan ends this process: no defers, no exit handlers of C, for either could hang.
func endOrphan() {
	mark := ""
	if value, ok := os.LookupEnv(markVariable); ok {
		mark = markVariable + "=" + value
	}
	killHelpers(os.Getpid(), mark)
	os.Exit(exitOrphan)
}

// ForbidDumps keeps the PIN in memory: no core file, and no reading of the
// memory by other processes of the same user. Not being dumpable also stops core handlers behind
// a pipe, which the limit does not.
func ForbidDumps() error {
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err != nil {
		return fmt.Errorf("cannot switch core dumps off: %w", err)
	}
	err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return fmt.Errorf("cannot switch core dumps off: %w", err)
	}
	return nil
}

// setProcs gives every call that can be in the module a scheduler slot of its own, and two for the
// rest. With fewer, a call that blocks in C for a millisecond keeps a slot until the runtime's
// monitor takes it away, which it does only every few milliseconds. (One slot for all saves a fifth
// of the CPU with a module that computes by itself, for want of threads to wake. With an HSM that
// takes 1 ms, calls a second then vary between all and a seventh.)
func setProcs(calls int) {
	runtime.GOMAXPROCS(calls + 2)
}
