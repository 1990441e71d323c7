package fleet

// The fleet: the HSMs' processes and the groups of them that run now, and how another
// set takes their place while requests are served. What the two have in common runs on.

import (
	"context"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/confine"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/worker"
)

// Fleet is what runs. One goroutine at a time changes it, any may look.
type Fleet struct {
	log    *zap.Logger
	start  func(hsmSpec, *zap.Logger) (*runningHSM, error) // startHSM; tests have their own
	kernel confine.Kernel                                  // for the confinement of processes
	Turns  Turns                                           // orders and changes of the fleet take turns

	Current  atomic.Pointer[Generation] // that serves; nil while the program starts
	Starting atomic.Pointer[Generation] // the first one, until it serves: to look at only

	closing  chan struct{} // closed by close
	retiring sync.WaitGroup
}

// Generation is one configuration with what serves it. It does not change once it is published.
type Generation struct {
	Number   int // from 1
	LoadedAt time.Time
	Config   *config.Config
	Secrets  *config.Secrets
	hsms     map[string]*runningHSM // by name
	Groups   []*runningGroup        // in the order of the configuration; made by finish
	Waits    []string               // keys whose values in the file wait for a restart

	started []string // HSMs that have a process of this generation
}

// hsmSpec is all that the process of an HSM is started with. Sensitive: it holds the PIN.
type hsmSpec struct {
	hsm            config.HSM
	keys           KeyIdentity
	pin            secret.Secret
	dir            string // of the configuration file
	stateDirectory string
	confinement    *Confinement
}

// HSMProcess is what orders need of a *worker.Worker.
type HSMProcess interface {
	State() worker.State
	Restart(reason string)
}

// fleetProcess is what the fleet needs of a *worker.Worker.
type fleetProcess interface {
	hsm.Token
	HSMProcess
	Ready(context.Context) error
}

// runningHSM is an HSM with its process.
type runningHSM struct {
	fleetProcess
	spec hsmSpec              // as it was started
	pin  func() secret.Secret // that it uses now
}

// runningGroup is a group with the settings that it was made with.
type runningGroup struct {
	*group.Group
	settings group.Config
}

// retireGrace is how long unused groups and processes live beyond the longest budget of a request.
const retireGrace = time.Second

// New makes a fleet without HSMs; Open begins its first generation.
func New(log *zap.Logger) *Fleet {
	return &Fleet{
		log: log, start: startHSM, kernel: confine.ThisKernel(), closing: make(chan struct{}),
	}
}

// startHSM starts the process of an HSM and does not wait for it.
func startHSM(spec hsmSpec, log *zap.Logger) (*runningHSM, error) {
	keeper := &pinKeeper{
		hsm: spec.hsm, keys: spec.keys, dir: spec.dir, pin: spec.pin,
		refused: RefusedPINs{Directory: spec.stateDirectory, Log: log},
	}
	err := spec.confinement.allowed()
	if err != nil {
		return nil, err
	}
	user, err := spec.hsm.ProcessUser(os.Geteuid())
	if err != nil {
		return nil, err
	}
	dir := spec.dir
	if user != nil {
		dir = "/" // that of the configuration need not let this user in
	}
	c, err := keeper.watch(worker.Config{
		Name:        spec.hsm.Name,
		Command:     spec.confinement.command(worker.FirstInherited, "hsm-worker", spec.hsm.Name),
		Inherit:     spec.confinement.files,
		Credential:  user,
		Dir:         dir,
		Env:         spec.hsm.Environment,
		HangTimeout: spec.hsm.HangTimeout,

		StartTimeout: spec.hsm.StartTimeout,
		MemoryLimit:  int64(spec.hsm.MemoryLimit) << 20,

		Log: log.With(zap.String("hsm", spec.hsm.Name)),
	})
	if err != nil {
		return nil, err
	}
	spec.confinement.announce(log)
	w, err := worker.Start(c)
	if err != nil {
		return nil, err
	}
	var process fleetProcess = w
	if spec.keys.create && spec.keys.TestKey != "" {
		process = makeTestKey(w, spec, keeper, c.Log)
	}
	return &runningHSM{fleetProcess: process, spec: spec, pin: keeper.current}, nil
}

// specOf is how an HSM of a configuration is started.
func (f *Fleet) specOf(c *config.Config, h config.HSM, s *config.Secrets) hsmSpec {
	return hsmSpec{
		hsm: h, keys: KeysOf(c, h.Name), pin: s.PINs[h.Name],
		dir: c.Source.Dir, stateDirectory: c.StateDirectory,
		confinement: NewConfinement(c, h, f.kernel),
	}
}

// fits reports whether the process can go on for spec. What GetHealthStatus shows of an HSM is its
// group's affair; its confinement learns by publish what is the proxy's own now.
func (r *runningHSM) fits(spec hsmSpec) bool {
	have, want := r.spec, spec
	samePIN := r.pin().Reveal() == want.pin.Reveal()
	have.pin, want.pin = secret.Secret{}, secret.Secret{}
	have.confinement, want.confinement = nil, nil
	have.hsm.Vendor, have.hsm.Model = want.hsm.Vendor, want.hsm.Model
	return samePIN && reflect.DeepEqual(have, want)
}

// Groups are those of the current generation, in the order of the configuration; none while the
// program starts.
func (f *Fleet) Groups() []*group.Group {
	g := f.Current.Load()
	if g == nil {
		return nil
	}
	list := make([]*group.Group, 0, len(g.Groups))
	for _, group := range g.Groups {
		list = append(list, group.Group)
	}
	return list
}

// Shown is the generation to look at: the one that serves or, while the program starts, the first.
func (f *Fleet) Shown() *Generation {
	first := f.Starting.Load() // before current, which publish sets before it clears this one
	if g := f.Current.Load(); g != nil {
		return g
	}
	return first
}

// Processes are those of the generation to look at, by HSM.
func (f *Fleet) Processes() map[string]HSMProcess {
	all := map[string]HSMProcess{}
	if g := f.Shown(); g != nil {
		for name, h := range g.hsms {
			all[name] = h
		}
	}
	return all
}

// group is nil if the generation has none of that name. A nil generation has none.
func (g *Generation) group(name string) *runningGroup {
	if g == nil {
		return nil
	}
	for _, group := range g.Groups {
		if group.Name() == name {
			return group
		}
	}
	return nil
}

// without are the groups and processes of g that other does not have. A nil generation has none.
func (g *Generation) without(other *Generation) ([]*runningGroup, []*runningHSM) {
	if g == nil {
		return nil, nil
	}
	kept := map[any]bool{}
	if other != nil {
		for _, group := range other.Groups {
			kept[group] = true
		}
		for _, h := range other.hsms {
			kept[h] = true
		}
	}
	var groups []*runningGroup
	for _, group := range g.Groups {
		if !kept[group] {
			groups = append(groups, group)
		}
	}
	var hsms []*runningHSM
	for _, h := range g.hsms {
		if !kept[h] {
			hsms = append(hsms, h)
		}
	}
	return groups, hsms
}

// retire ends, after a while, what served old and does not serve next: requests may still use it.
func (f *Fleet) retire(old, next *Generation) {
	groups, hsms := old.without(next)
	if len(groups)+len(hsms) == 0 {
		return
	}
	after := retireGrace + max(old.Config.Server.Budget, old.Config.Server.FirstRequestBudget)
	f.retiring.Go(func() {
		select {
		case <-time.After(after):
		case <-f.closing:
		}
		f.end(groups, hsms)
	})
}

// Abandon ends what was begun for a generation that will not be.
func (f *Fleet) Abandon(next *Generation) {
	f.end(next.without(f.Current.Load()))
}

// end closes groups first, which use the processes.
func (f *Fleet) end(groups []*runningGroup, hsms []*runningHSM) {
	for _, group := range groups {
		group.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), HSMCloseTimeout)
	defer cancel()
	ended := make(chan error)
	for _, h := range hsms {
		go func() { ended <- h.Close(ctx) }()
	}
	for range hsms {
		if err := <-ended; err != nil {
			f.log.Warn("an HSM was not closed cleanly", zap.Error(err))
		}
	}
}

// Close ends everything. No change of the fleet may be under way, and none may follow.
func (f *Fleet) Close() {
	close(f.closing)
	f.end(f.Shown().without(nil))
	f.retiring.Wait()
}
