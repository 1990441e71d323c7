package server

// The serve command: what it starts, and in which order.

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/filewatch"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/logging"
	"xks-proxy/pkg/hsm/worker"
)

// Run runs the proxy until ctx ends. It calls started when it serves.
func Run(ctx context.Context, file string, started func()) error {
	tuneMemory()
	signal.Ignore(syscall.SIGPIPE) // of a log whose reader is gone
	hangups := make(chan os.Signal, 1)
	signal.Notify(
		hangups,
		syscall.SIGHUP,
	) // one that comes during the start, also while commands give secrets, reloads after it
	defer signal.Stop(hangups)
	if err := worker.ForbidDumps(); err != nil {
		return err // PINs and secrets are in this process's memory
	}
	began := time.Now()
	c, warnings, err := config.Load(file)
	if err != nil {
		return err
	}
	secrets, more, err := config.ResolveSecrets(ctx, c)
	if err != nil {
		return err
	}
	material, dubious, err := certs.Prepare(c)
	if err != nil {
		return err
	}
	files := new(filewatch.Watcher)
	files.Settle(filesOf(file, c), began)
	log, err := logging.New(c.Log)
	if err != nil {
		return err
	}
	defer log.Flush()
	err = serveWith(
		ctx,
		serving{
			file,
			c,
			secrets,
			material,
			slices.Concat(warnings, dubious, more),
			files,
			log,
			hangups,
		},
		started,
	)
	if err != nil && c.Log.Output != "stderr" { // there the last sentence comes anyway
		log.Error("the proxy ends", zap.Error(err))
	}
	return err
}

// serving is what is known when the log begins.
type serving struct {
	file     string
	config   *config.Config
	secrets  *config.Secrets
	material *certs.Material
	warnings []schema.Warning
	files    *filewatch.Watcher
	log      *logging.Log
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
	leave, err := socket.AdoptOrphans()
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
	if errors.Is(err, fleet.ErrStopped) {
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
