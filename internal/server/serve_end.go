package server

// The end of a start. Each step of a start waits for something: files, commands that give secrets,
// HSMs, a disk. Those that can be called off are; a system call that hangs cannot. When the program
// is asked to stop it stops, whatever it waits for.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"xks-proxy/internal/fleet"
)

// StartEndLimit is how long a start may take to end in good order; HSMs take up to
// fleet.HSMCloseTimeout.
const StartEndLimit = fleet.HSMCloseTimeout + 3*time.Second

// errStartHangs is a start that did not end when it was asked to. Its goroutines still run, so the
// process must end.
var errStartHangs = errors.New("stopped before it began to serve, and the start hangs")

// Endable calls work, which calls serving when the start is over. If ctx ends before that and work
// does not within limit, it returns errStartHangs and leaves work behind.
func Endable(ctx context.Context, limit time.Duration, work func(serving func()) error) error {
	started, ended := make(chan struct{}), make(chan error, 1)
	serving := sync.OnceFunc(func() { close(started) })
	go func() { ended <- work(serving) }()
	select {
	case err := <-ended:
		return err
	case <-started:
		return <-ended
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-started: // at the last moment: the end of serving is in good order
		return <-ended
	case <-time.After(limit):
		return fmt.Errorf("%w: it did not end within %s", errStartHangs, limit)
	}
}
