package main

// The serve command: what it starts, and in which order.

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"xks-proxy/internal/filewatch"
	"xks-proxy/pkg/hsm/worker"
)

const serveLong = `serve answers AWS KMS over HTTPS until it is told to stop.

It starts one process for each HSM, logs in, lists the keys and probes every HSM
before it takes the first request. With one HSM of several away it serves from the
others and says so in the log. On SIGTERM or Ctrl-C it answers what is in flight and ends.`

func newServeCommand() *cobra.Command {
	var f configFlag
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Serve AWS KMS",
		Long:    serveLong,
		Example: "  xks-proxy serve\n  xks-proxy serve ./xks-proxy.yaml",
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := f.path()
			if err != nil {
				return err
			}
			return endable(c.Context(), startEndLimit, func(serving func()) error { return serve(c.Context(), file, serving) })
		},
	}
	f.registerArgument(c)
	return c
}

// serve runs the proxy until ctx ends. It calls started when it serves.
func serve(ctx context.Context, file string, started func()) error {
	tuneMemory()
	signal.Ignore(syscall.SIGPIPE) // of a log whose reader is gone
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // one that comes during the start, also while commands give secrets, reloads after it
	defer signal.Stop(hangups)
	if err := worker.ForbidDumps(); err != nil {
		return err // PINs and secrets are in this process's memory
	}
	began := time.Now()
	c, warnings, err := loadConfig(file)
	if err != nil {
		return err
	}
	secrets, more, err := resolveSecrets(ctx, c)
	if err != nil {
		return err
	}
	material, dubious, err := prepareTLS(c)
	if err != nil {
		return err
	}
	files := new(filewatch.Watcher)
	files.Settle(filesOf(file, c), began)
	log, err := newLogger(c.Log)
	if err != nil {
		return err
	}
	defer log.flush()
	err = serveWith(ctx, serving{file, c, secrets, material, slices.Concat(warnings, dubious, more), files, log, hangups}, started)
	if err != nil && c.Log.Output != "stderr" { // there the last sentence comes anyway
		log.Error("the proxy ends", zap.Error(err))
	}
	return err
}

// serving is what is known when the log begins.
type serving struct {
	file     string
	config   *config
	secrets  *secrets
	material *tlsMaterial
	warnings []warning
	files    *filewatch.Watcher
	log      *openedLog
	hangups  <-chan os.Signal
}

// serveWith is serve from the first line of the log on.
func serveWith(ctx context.Context, v serving, started func()) error {
	c, log := v.config, v.log.Logger
	for _, w := range v.warnings {
		log.Warn("configuration", zap.String("warning", w.String()))
	}
	err := checkStateDirectory(c.StateDirectory, log)
	if err != nil {
		return err
	}
	unlock, err := lockState(c.StateDirectory, log)
	if err != nil {
		return err
	}
	defer unlock()
	leave, err := adoptOrphans()
	if err != nil {
		return err
	}
	defer leave()
	listeners, err := listen(ctx, c, log)
	if err != nil {
		return err
	}
	defer listeners.close()
	p, err := startProcesses(ctx, v, listeners)
	if err != nil {
		return err
	}
	defer p.stop()
	defer p.reloader.stop() // before p.stop
	s := newServers(p, listeners)
	s.serveBeside()
	defer s.closeBeside()
	defer p.uses.Keep(p.keyStores)()
	err = p.assemble(ctx)
	if errors.Is(err, errStopped) {
		log.Info(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	started()
	go p.reloader.run(v.hangups)
	return s.run(ctx)
}
