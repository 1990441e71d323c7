package server

// A reload: the configuration is read again, checked and built as at the start, beside what serves.
// Then it takes effect at once or, if anything is wrong with it, not at all.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/certs"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/filewatch"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/killswitch"
	"xks-proxy/internal/logging"
	"xks-proxy/internal/loosening"
	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/xks"
)

// reloaderConfig is what a reload reads and what it puts into effect. Every field is required.
type reloaderConfig struct {
	file  string
	log   *logging.Log
	fleet *fleet.Fleet
	files *filewatch.Watcher
	tls   *certs.Holder
	kill  *killswitch.Switch

	listeners *listeners
	served    *atomic.Pointer[xks.Handler] // set when the first generation is published
	warnings  []schema.Warning             // that the log has from the start
}

// reloader reloads, one at a time.
type reloader struct {
	reloaderConfig

	life context.Context // ends with the program: a reload that is under way is called off
	end  context.CancelFunc
	turn chan struct{} // capacity 1: full while a reload is under way

	gone loosening.GoneStores // requires the turn

	mu       sync.Mutex // guards what follows
	progress api.ReloadState
	known    map[string]bool // warnings that the log has
}

// reloadReading is a configuration that was read and is good as far as can be said without HSMs.
type reloadReading struct {
	config   *config.Config
	secrets  *config.Secrets
	changes  []config.Change
	waits    []string
	warnings []schema.Warning
	tls      *certs.Material
	ports    *config.Config // config, with the ports that its file wants
	loosens  []loosening.Loosening
	confirm  bool   // what loosens is taken only when an operator accepts it
	digest   string // of what changes: what an operator accepts
}

var errNotStarted = fleet.Refuse(
	admin.ErrStarting,
	"the proxy is still starting: nothing was reloaded; ask again in a moment",
)

func newReloader(ctx context.Context, c reloaderConfig) *reloader {
	r := &reloader{reloaderConfig: c, turn: make(chan struct{}, 1), known: map[string]bool{}}
	for _, w := range c.warnings {
		r.known[w.String()] = true
	}
	r.life, r.end = context.WithCancel(ctx)
	return r
}

// take waits for the turn; ctx is the caller's patience. The context that it returns is that of the
// work.
func (r *reloader) take(ctx context.Context) (context.Context, func(), error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fleet.Refuse(
			fleet.ErrUnderWay,
			"another reload is under way: nothing was changed; ask again when it has ended",
		)
	case <-r.life.Done():
		return nil, nil, fleet.ErrStopped
	}
	release := func() { <-r.turn }
	if r.life.Err() != nil {
		release()
		return nil, nil, fleet.ErrStopped
	}
	if r.fleet.Current.Load() == nil {
		release()
		return nil, nil, errNotStarted
	}
	return r.life, release, nil
}

// stop calls off a reload that is under way, waits for its end, and lets none begin.
func (r *reloader) stop() {
	r.end()
	r.turn <- struct{}{}
	<-r.turn
}

// Reload reads the configuration again and puts it into effect. After an error the old one stays in
// use, unchanged. by is who asked for it, for the log; a caller who goes away does not stop a
// reload that has begun.
func (r *reloader) Reload(
	ctx context.Context, by string, accept api.Acceptance,
) (*api.ReloadAnswer, error) {
	work, release, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	err = peer.Gone(ctx) // it may have waited long for its turn
	if err != nil {
		return nil, err
	}
	began := time.Now()
	reopened := r.log.Reopen() // whatever becomes of the configuration: its file may have been renamed
	if reopened != nil {
		r.log.Error("the log is written to the old file", zap.Error(reopened))
	}
	try := reloadTry{by: by, began: began, accept: accept}
	answer, err := r.replace(work, try)
	if err == nil && reopened != nil {
		answer.Warnings = append(answer.Warnings, reopened.Error())
	}
	if err != nil && (errors.Is(err, fleet.ErrStopped) || work.Err() != nil) {
		return nil, errors.New("the proxy is ending: nothing was reloaded")
	}
	r.note(try, answer, err)
	return answer, err
}

func (r *reloader) replace(ctx context.Context, try reloadTry) (*api.ReloadAnswer, error) {
	reading, err := r.read(ctx)
	r.settle(reading, try.began)
	if err != nil {
		return nil, err
	}
	err = reading.refuses(try.accept)
	if err != nil {
		return nil, err
	}
	old := r.fleet.Current.Load()
	next, err := r.fleet.Prepare(ctx, reading.config, reading.secrets)
	if err != nil {
		return nil, err
	}
	next.Waits = reading.waits
	serve := func() error {
		err := r.served.Load().Replace(handlerConfig(next, r.log))
		if err != nil {
			return fmt.Errorf("the key stores cannot be served: %w", err)
		}
		r.listeners.apply(reading.ports)
		r.tls.Use(reading.tls)
		return nil
	}
	err = r.fleet.Publish(ctx, next, func() error {
		return r.kill.Follow(next.Config.URIPaths(), r.log.Logger, serve)
	})
	if err != nil {
		r.fleet.Abandon(next)
		if errors.Is(err, fleet.ErrUnderWay) {
			r.files.Forget() // nothing is wrong with them: they are read again, if somebody looks
		}
		return nil, err
	}
	r.gone = r.gone.After(old.Config, next.Config)
	for _, g := range next.Groups {
		if !slices.Contains(old.Groups, g) {
			announceHSMs(r.log.Logger, g.Group)
		}
	}
	answer := r.answer(reading)
	answer.Generation, answer.Took = next.Number, hsm.Milliseconds(time.Since(try.began))
	return answer, nil
}

// Preview says what a reload would change. The files are read, commands that give secrets are run;
// HSMs are not asked.
func (r *reloader) Preview(ctx context.Context) (*api.ReloadAnswer, error) {
	ctx, release, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	reading, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	return r.answer(reading), nil
}

// read is everything of a reload that needs no HSM.
func (r *reloader) read(ctx context.Context) (*reloadReading, error) {
	old := r.fleet.Current.Load()
	c, warnings, err := config.Load(r.file)
	if err != nil {
		return nil, err
	}
	err = refuseEmptied(c, old.Config)
	if err != nil {
		return nil, err
	}
	secrets, more, err := config.ResolveSecrets(ctx, c)
	if err != nil {
		return nil, err
	}
	reading := &reloadReading{config: c, secrets: secrets, warnings: slices.Concat(warnings, more)}
	reading.changes = config.Diff(old.Config, c, old.Secrets, secrets)
	wanted := c.Server.Listeners
	reading.waits = keepRunning(c, old.Config)
	reading.ports = withListeners(c, wanted)
	reading.tls, more, err = certs.Prepare(reading.ports)
	if err != nil {
		return nil, err
	}
	err = r.tls.Refuses(reading.tls)
	if err != nil {
		return nil, err
	}
	reading.warnings = append(reading.warnings, more...)
	reading.changes = append(reading.changes, r.tls.Renewals(reading.tls)...)
	running := loosening.Compared{Config: old.Config, Rules: r.tls.Current.Load().Rules}
	reading.loosens = loosening.Of(
		running,
		loosening.Compared{Config: c, Rules: reading.tls.Rules},
		r.gone,
	)
	reading.confirm = old.Config.Reload.Confirms() || c.Reload.Confirms()
	if len(reading.loosens) > 0 {
		reading.digest = digestOf(reading)
	}
	return reading, nil
}

// settle gives the file watch the state in which the files were read, so that this state does not
// cause another reload.
func (r *reloader) settle(reading *reloadReading, began time.Time) {
	configs := []*config.Config{r.fleet.Current.Load().Config}
	if reading != nil {
		configs = append(configs, reading.config)
	} else if l, err := config.LoadFile(r.file); err == nil {
		configs = append(configs, l.Config) // of a file with mistakes too: what it names may be what has to be fixed
	}
	r.files.Settle(filesOf(r.file, configs...), began)
}

func (r *reloader) answer(reading *reloadReading) *api.ReloadAnswer {
	a := &api.ReloadAnswer{
		File: api.Absolute(
			r.file,
		), Changes: append([]config.Change{}, reading.changes...), Warnings: []string{},
		WaitsForRestart: append([]string{}, reading.waits...),
		Loosens:         append([]loosening.Loosening{}, reading.loosens...),
	}
	if len(a.Loosens) > 0 {
		a.Digest, a.Confirm = reading.digest, reading.confirm
	}
	for _, w := range reading.warnings {
		a.Warnings = append(a.Warnings, w.String())
	}
	return a
}

// run reloads at SIGHUP and when files have changed, until the program ends.
func (r *reloader) run(hangups <-chan os.Signal) {
	go r.files.Watch(r.life, r.interval, func(what string) { r.reloadBy("a change of " + what) })
	for {
		select {
		case <-hangups:
			r.reloadBy("SIGHUP")
		case <-r.life.Done():
			return
		}
	}
}

// reloadBy waits for its turn as long as it takes; the log has the result.
func (r *reloader) reloadBy(whom string) { _, _ = r.Reload(r.life, whom, api.AcceptNothing) }

func (r *reloader) interval() time.Duration { return r.fleet.Current.Load().Config.Reload.Interval }
