package fleet

// The fleet as it changes, with HSMs in memory: what is kept, what is made anew, what ends and
// when, and that
// an attempt that fails leaves no trace.

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/secret"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// fakeHSM is a process of a fleet.
type fakeHSM struct {
	*hsmtest.Token
	state  worker.State
	ready  error
	closed atomic.Bool
}

func (h *fakeHSM) State() worker.State { return h.state }

func (h *fakeHSM) Restart(string) {}

func (h *fakeHSM) Ready(context.Context) error { return h.ready }

func (h *fakeHSM) Close(ctx context.Context) error {
	h.closed.Store(true)
	return h.Token.Close(ctx)
}

// fleetRig is a fleet and all processes that it ever started.
type fleetRig struct {
	*Fleet
	mu      sync.Mutex
	started []*fakeHSM
	refuse  map[string]error // by HSM: what becomes of the next start
}

func newFleetRig(t *testing.T) *fleetRig {
	rig := &fleetRig{Fleet: New(zap.NewNop()), refuse: map[string]error{}}
	rig.start = func(spec hsmSpec, _ *zap.Logger) (*runningHSM, error) {
		rig.mu.Lock()
		defer rig.mu.Unlock()
		token := hsmtest.New(spec.hsm.Name)
		token.AddKey("test", 1)
		token.AddKey("key", 1)
		h := &fakeHSM{
			Token: token,
			state: worker.State{Phase: worker.Running, PID: 1000 + len(rig.started), Sessions: 8},
			ready: rig.refuse[spec.hsm.Name],
		}
		if h.ready != nil {
			h.state.Phase, h.state.LastErr = worker.Failed, h.ready
			h.SetHook(func(context.Context, hsmtest.Op, hsm.KeyRef) error { return h.ready })
		}
		rig.started = append(rig.started, h)
		return &runningHSM{
			fleetProcess: h,
			spec:         spec,
			pin:          func() secret.Secret { return spec.pin },
		}, nil
	}
	t.Cleanup(rig.Close)
	return rig
}

// serviceOf is the state of service of an HSM of the first group.
func (rig *fleetRig) serviceOf(name string) status.Service {
	for _, m := range rig.Groups()[0].Status().Members {
		if m.HSM == name {
			return m.Service
		}
	}
	return ""
}

// running are the names of the processes that have not been closed.
func (rig *fleetRig) running() []string {
	rig.mu.Lock()
	defer rig.mu.Unlock()
	var names []string
	for _, h := range rig.started {
		if !h.closed.Load() {
			names = append(names, h.Info().Label)
		}
	}
	slices.Sort(names)
	return names
}

// fleetConfig is one group of two HSMs, changed by edit.
func fleetConfig(edit func(*config.Config)) (*config.Config, *config.Secrets) {
	c := &config.Config{
		Source: &schema.Source{Dir: "/"},
		Server: config.Server{
			Budget:             200 * time.Millisecond,
			FirstRequestBudget: 180 * time.Millisecond,
		},
		HSMs: []config.HSM{{Name: "a"}, {Name: "b"}},
		HSMGroups: []config.Group{
			{
				Name:          "main",
				TestKey:       config.TestKey{Label: "test"},
				ProbeInterval: time.Second,
				ParityRate:    0,
				HSMs:          []config.GroupMember{{HSM: "a"}, {HSM: "b"}},
			},
		},
	}
	s := &config.Secrets{
		PINs: map[string]secret.Secret{
			"a": secret.New("1"),
			"b": secret.New("2"),
			"c": secret.New("3"),
		},
	}
	if edit != nil {
		edit(c)
	}
	return c, s
}

// begins starts a fleet as serve does.
func (rig *fleetRig) begins(t *testing.T, edit func(*config.Config)) {
	t.Helper()
	c, s := fleetConfig(edit)
	err := rig.Open(c, s)
	if err != nil {
		t.Fatal(err)
	}
	first := rig.Starting.Load()
	err = rig.Finish(t.Context(), first)
	if err == nil {
		err = rig.Publish(t.Context(), first, func() error { return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
}

// changes prepares and publishes.
func (rig *fleetRig) changes(ctx context.Context, c *config.Config, s *config.Secrets) error {
	next, err := rig.Prepare(ctx, c, s)
	if err != nil {
		return err
	}
	err = rig.Publish(ctx, next, func() error { return nil })
	if err != nil {
		rig.Abandon(next)
	}
	return err
}

// What has not changed runs on; what has is made anew, and nothing else.
func TestFleetKeepsWhatIsTheSame(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*config.Config, *config.Secrets)
		hsms   []string // with a new process
		groups bool     // made anew
	}{
		"nothing": {edit: func(*config.Config, *config.Secrets) {}},
		"a credential": {edit: func(_ *config.Config, s *config.Secrets) {
			s.AccessKeys = map[string][]config.AccessKey{"x": {{ID: "A"}}}
		}},
		"the vendor's name": {edit: func(c *config.Config, _ *config.Secrets) { c.HSMs[0].Vendor = "other" }, groups: true},
		"a priority":        {edit: func(c *config.Config, _ *config.Secrets) { c.HSMGroups[0].HSMs[1].Priority = 1 }, groups: true},
		"the budget":        {edit: func(c *config.Config, _ *config.Secrets) { c.Server.Budget = time.Second }, groups: true},
		"the first budget":  {edit: func(c *config.Config, _ *config.Secrets) { c.Server.FirstRequestBudget = time.Second }},
		"sessions":          {edit: func(c *config.Config, _ *config.Secrets) { c.HSMs[1].Sessions = 9 }, hsms: []string{"b"}, groups: true},
		"a PIN":             {edit: func(_ *config.Config, s *config.Secrets) { s.PINs["a"] = secret.New("corrected") }, hsms: []string{"a"}, groups: true},
		"an HSM of no group": {edit: func(c *config.Config, _ *config.Secrets) { c.HSMs = append(c.HSMs, config.HSM{Name: "c"}) },
			hsms: []string{"c"}},
		"a member less": {edit: func(c *config.Config, _ *config.Secrets) { c.HSMGroups[0].HSMs = c.HSMGroups[0].HSMs[:1] }, hsms: []string{"b"}, groups: true}, // it has no test key any more
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rig := newFleetRig(t)
				rig.begins(t, nil)
				old := rig.Current.Load()
				next, s := fleetConfig(nil)
				c.edit(next, s)
				err := rig.changes(t.Context(), next, s)
				if err != nil {
					t.Fatal(err)
				}
				now := rig.Current.Load()
				if now.Number != 2 || !slices.Equal(now.started, c.hsms) {
					t.Errorf(
						"generation %d, new processes %v, want %v",
						now.Number,
						now.started,
						c.hsms,
					)
				}
				for name, h := range now.hsms {
					if same := old.hsms[name] == h; same == slices.Contains(c.hsms, name) {
						t.Errorf("the process of %s is the same: %t", name, same)
					}
				}
				if same := old.Groups[0] == now.Groups[0]; same == c.groups {
					t.Errorf("the group is the same: %t", same)
				}
			})
		})
	}
}

// What is no longer used lives as long as a request that may use it, and then ends; nothing else
// does.
func TestFleetRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, func(c *config.Config) { c.Server.Budget = 5 * time.Second })
		group := rig.Groups()[0]
		c, s := fleetConfig(func(c *config.Config) {
			c.HSMs = []config.HSM{{Name: "a"}, {Name: "c"}}
			c.HSMGroups[0].HSMs[1].HSM = "c"
		})
		err := rig.changes(t.Context(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"a", "c"}; len(rig.Processes()) != 2 || rig.Processes()["c"] == nil {
			t.Errorf("the processes are %v, want %v", rig.Processes(), want)
		}
		time.Sleep(5*time.Second + retireGrace/2) // the longest budget of the old generation
		if got := rig.running(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("%v run; requests of the old generation may still use b", got)
		}
		_, _, err = group.Encrypt(
			t.Context(),
			hsm.KeyRef{Label: "key", Version: 1},
			nil,
			[]byte("x"),
		)
		if err != nil {
			t.Errorf("a request of the old generation: %v", err)
		}
		time.Sleep(retireGrace)
		synctest.Wait()
		if got := rig.running(); !slices.Equal(got, []string{"a", "c"}) {
			t.Errorf("%v run, want a and c", got)
		}
	})
}

// The end of the program does not wait for the grace period of unused groups and processes.
func TestFleetCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.begins(t, func(c *config.Config) { c.Server.Budget = time.Minute })
		for n := range 3 {
			c, s := fleetConfig(
				func(c *config.Config) { c.Server.Budget = time.Minute; c.HSMs[0].Sessions = n + 5 },
			)
			err := rig.changes(t.Context(), c, s)
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := rig.running(); len(got) != 5 {
			t.Errorf("%v run, want each of the four of a and b", got)
		}
		began := time.Now()
		rig.Fleet.Close()
		if took := time.Since(began); took > HSMCloseTimeout {
			t.Errorf("it took %v", took)
		}
		if got := rig.running(); len(got) != 0 {
			t.Errorf("%v run on", got)
		}
		rig.closing = make(chan struct{}) // for the cleanup
		rig.Current.Store(nil)
	})
}

// A change that fails leaves everything as it was: what had been started for it ends at once.
func TestFleetChangeThatFails(t *testing.T) {
	away := &hsm.Error{HSM: "b", Op: "open", Kind: hsm.ErrUnavailable}
	for name, c := range map[string]struct {
		refuse map[string]error
		put    error
		edit   func(*config.Config)
	}{
		"an HSM that works is lost":  {refuse: map[string]error{"b": away}, edit: func(c *config.Config) { c.HSMs[1].Sessions = 9 }},
		"a new HSM with a wrong PIN": {refuse: map[string]error{"c": &hsm.Error{HSM: "c", Kind: hsm.ErrPINIncorrect}}, edit: func(c *config.Config) { c.HSMs = append(c.HSMs, config.HSM{Name: "c"}) }},
		"the handler refuses":        {put: errors.New("refused"), edit: func(c *config.Config) { c.HSMs[1].Sessions = 9 }},
		"a group that could not serve": {refuse: map[string]error{"c": &hsm.Error{HSM: "c", Kind: hsm.ErrUnavailable}}, edit: func(c *config.Config) {
			c.HSMs = append(c.HSMs, config.HSM{Name: "c"})
			c.HSMGroups[0].HSMs = []config.GroupMember{{HSM: "c"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rig := newFleetRig(t)
				rig.begins(t, nil)
				old := rig.Current.Load()
				rig.refuse = c.refuse
				next, s := fleetConfig(c.edit)
				g, err := rig.Prepare(t.Context(), next, s)
				if err == nil {
					err = rig.Publish(t.Context(), g, func() error { return c.put })
					rig.Abandon(g)
				}
				if err == nil {
					t.Error("no error")
				}
				if rig.Current.Load() != old || !slices.Equal(rig.running(), []string{"a", "b"}) {
					t.Errorf("%v run", rig.running())
				}
				if !rig.Groups()[0].CanServe() {
					t.Error("the old group does not serve")
				}
			})
		})
	}
}

// An HSM that is away does not keep others from being changed, and a new one that is away is taken
// as at the start.
func TestFleetChangesWhileOneIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rig := newFleetRig(t)
		rig.refuse["b"] = &hsm.Error{HSM: "b", Op: "open", Kind: hsm.ErrUnavailable}
		rig.begins(t, nil)
		c, s := fleetConfig(func(c *config.Config) { c.HSMs[0].Sessions, c.HSMs[1].Sessions = 9, 9 })
		err := rig.changes(t.Context(), c, s)
		if err != nil {
			t.Fatal(err)
		}
		rig.refuse = nil
		c, s = fleetConfig(nil)
		err = rig.changes(t.Context(), c, s)
		if err != nil || rig.Current.Load().Number != 3 {
			t.Errorf("%v", err)
		}
	})
}
