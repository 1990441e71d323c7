package main

// The server of a remote HSM: the module in the program is its client.

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"xks-proxy/test/harness"
)

// server serves a SoftHSM token. It has a process for each client, so that signals go to its group.
type server struct {
	program string // called with the socket, the module and the token
	socket  string
	token   *target

	ctx     context.Context  // of start, for starting it again
	running *harness.Program // nil: it was never started
}

// start starts it and waits for its socket.
func (s *server) start(ctx context.Context) error {
	_ = os.Remove(s.socket) // of the one before
	s.ctx = ctx
	command := exec.CommandContext(ctx, s.program, s.socket, s.token.Direct, s.token.Name)
	command.Env = append(os.Environ(), "SOFTHSM2_CONF="+s.token.Conf)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	running, err := harness.Start(command, func(line []byte) {
		fmt.Fprintf(os.Stderr, "%s\n", line)
	})
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	s.running = running
	for deadline := time.Now().Add(harness.StartLimit); time.Now().Before(deadline); {
		_, err := os.Stat(s.socket)
		if err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the server does not listen on %s", s.socket)
}

func (s *server) signal(signal syscall.Signal) error {
	err := syscall.Kill(-s.running.PID, signal)
	if err != nil {
		return fmt.Errorf("%s to the server: %w", signal, err)
	}
	return nil
}

func (s *server) stop() {
	if s.running == nil {
		return
	}
	_ = s.signal(syscall.SIGKILL) // it may have ended by itself
	<-s.running.Exited()
}

// serverSignalled hits the server of a remote HSM. A killed one is started again in the end.
func serverSignalled(name string, signal syscall.Signal) fault {
	return fault{name: name, inject: func(w *world, _ *target) (func() bool, error) {
		return always, w.server.signal(signal)
	}, heal: func(w *world, _ *target) error {
		if signal == syscall.SIGSTOP {
			return w.server.signal(syscall.SIGCONT)
		}
		w.server.stop()
		return w.server.start(w.server.ctx)
	}}
}
