package demo

// The proxy of the demo: `xks-proxy serve` in a process of its own, which ends with
// the demo whatever ends that.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/subprocess"
	"xks-proxy/internal/xksclient"
)

const (
	demoStartTimeout = 60 * time.Second
	demoStopTimeout  = 20 * time.Second // above the drain timeout of the configuration
	demoPollInterval = 50 * time.Millisecond
	demoLogShown     = 3 // lines of the log, if the proxy ended unexpectedly
)

// demoProxy is the running proxy.
type demoProxy struct {
	pid     int
	log     string
	logFrom int64         // where this run's part of the log begins
	ended   chan struct{} // closed when the process is gone
	err     error         // how it ended; to be read after ended
}

// startDemoProxy starts `xks-proxy serve`.
func startDemoProxy(d *Directory) (*demoProxy, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the path of this program cannot be found: %w", err)
	}
	log, err := os.OpenFile(d.log(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the log of the proxy cannot be written: %w", err)
	}
	defer log.Close()
	logFrom, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("the log of the proxy cannot be written: %w", err)
	}
	cmd := exec.Command(self, "serve", "--config", d.config())
	cmd.Env = schema.ChildEnvironment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C comes from us, once
		Pdeathsig: syscall.SIGKILL, // kill -9 of the demo leaves nothing running
	}
	p := &demoProxy{log: d.log(), logFrom: logFrom, ended: make(chan struct{})}
	started := make(chan error)
	go p.run(cmd, started)
	err = <-started
	if err != nil {
		return nil, fmt.Errorf("the proxy cannot be started: %w", err)
	}
	return p, nil
}

// run starts the process and waits for its end, on one thread all the while: the
// kernel sends the death signal when the thread that forked ends, not the process.
func (p *demoProxy) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	started <- err
	if err == nil {
		p.err = cmd.Wait()
	}
	close(p.ended)
}

// waitReady waits until the proxy says that both HSMs are ACTIVE.
func (p *demoProxy) waitReady(ctx context.Context, client *xksclient.Client) error {
	timed, cancel := context.WithTimeout(ctx, demoStartTimeout)
	defer cancel()
	var last error
	for {
		var answer xksclient.HealthAnswer
		_, err := client.Call(
			timed,
			xksclient.HealthURI,
			xksclient.MetadataRequest{Metadata: demoMetadata(client.To, "KmsHealthCheck")},
			&answer,
		)
		if err == nil {
			err = allActive(answer)
		}
		if err == nil {
			return nil
		}
		if timed.Err() == nil {
			last = err
		}
		select {
		case <-p.ended:
			return p.endedError()
		case <-timed.Done():
			if ctx.Err() != nil {
				return subprocess.ErrInterrupted
			}
			return fmt.Errorf(
				"the proxy was not ready within %s (%w); its log is %s",
				demoStartTimeout,
				last,
				p.log,
			)
		case <-time.After(demoPollInterval):
		}
	}
}

// endedError says how the proxy ended unexpectedly, with the last lines of its log.
func (p *demoProxy) endedError() error {
	how := "without an error"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("the proxy ended (%s). The end of %s:\n%s", how, p.log, p.lastLines())
}

func (p *demoProxy) lastLines() string {
	data, err := os.ReadFile(p.log)
	if err != nil || int64(len(data)) <= p.logFrom {
		return "  (nothing)"
	}
	lines := bytes.Split(bytes.TrimSpace(data[p.logFrom:]), []byte("\n"))
	var b strings.Builder
	for _, line := range lines[max(0, len(lines)-demoLogShown):] {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// stop has the proxy drain and end, and kills it if it does not.
func (p *demoProxy) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	// It cannot be another process by now: ended is closed after Wait only.
	err := syscall.Kill(p.pid, syscall.SIGTERM)
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("the proxy cannot be stopped: %w", err)
	}
	select {
	case <-p.ended:
	case <-time.After(demoStopTimeout):
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it ends of the signal before, or of this one
		<-p.ended
		return fmt.Errorf("the proxy did not stop within %s and was killed", demoStopTimeout)
	}
	if p.err != nil {
		return p.endedError()
	}
	return nil
}
