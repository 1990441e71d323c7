package fleet

// What the process of an HSM cannot reach: everything that is the proxy's own (package confine).
// A vendor's library runs in it, with the proxy's user unless hsms[].user names another.

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"go.uber.org/zap"

	"xks-proxy/internal/config"
	"xks-proxy/internal/subprocess"
	"xks-proxy/pkg/confine"
)

// Confinement is the confinement of one HSM's process. A reload changes it for the next process.
type Confinement struct {
	hsm    config.HSM
	kernel confine.Kernel

	mu     sync.Mutex
	wanted confine.Plan // by the configuration in use
	used   confine.Plan // of the process that was started last; resolved
	stale  bool         // used does not cover wanted
}

// NewConfinement is the confinement that a configuration wants for the process of an HSM.
func NewConfinement(c *config.Config, h config.HSM, kernel confine.Kernel) *Confinement {
	return &Confinement{hsm: h, kernel: kernel, wanted: config.ConfinementPlan(c, h)}
}

// allowed is why the process cannot be started; nil if it can.
func (c *Confinement) allowed() error {
	if !c.hsm.Confine.Required || c.kernel.Complete() {
		return nil
	}
	return fmt.Errorf(
		"HSM %s: confine.required is set and this kernel has %s: %s; "+
			"run Linux 6.12 or later with Landlock switched on (lsm=landlock,…), "+
			"or remove confine.required",
		c.hsm.Name, c.kernel, c.kernel.Missing())
}

// command is the argv of a process that finds its order as the file descriptor fd.
func (c *Confinement) command(fd int, arguments ...string) []string {
	if c.hsm.Confine.Mode == config.ConfineOff {
		return append([]string{"/proc/self/exe"}, arguments...)
	}
	return confine.Arguments(fd, arguments...)
}

// files are what the HSM's process inherits to confine itself.
func (c *Confinement) files() ([]*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used, c.stale = c.wanted.Resolve(), false
	return c.order(c.used)
}

// order is the order to a process, in a list; none if it is not confined.
func (c *Confinement) order(plan confine.Plan) ([]*os.File, error) {
	if c.hsm.Confine.Mode == config.ConfineOff {
		return nil, nil
	}
	order, err := confine.Spec{Kernel: c.kernel, Plan: plan}.File()
	if err != nil {
		return nil, err
	}
	return []*os.File{order}, nil
}

// Confine makes a child that loads the HSM's module one that is confined, and runs as the user,
// like the HSM's own process.
func (c *Confinement) Confine(one subprocess.Child) (subprocess.Child, error) {
	err := c.allowed()
	if err != nil {
		return subprocess.Child{}, err
	}
	one.Credential, err = c.hsm.ProcessUser(os.Geteuid())
	if err != nil {
		return subprocess.Child{}, err
	}
	if one.Credential != nil {
		one.Directory = "/" // as that of the HSM's process (see startHSM)
	}
	c.mu.Lock()
	plan := c.wanted
	c.mu.Unlock()
	one.Inherited, err = c.order(plan.Resolve())
	one.Arguments = c.command(subprocess.FirstInherited, one.Arguments...)[1:] // without the program
	return one, err
}

// update is for a configuration that comes into use while the process runs on.
func (c *Confinement) update(now *config.Config) {
	plan := config.ConfinementPlan(now, c.hsm)
	resolved := plan.Resolve()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = plan
	c.stale = len(c.used.Protect) > 0 && !c.used.Covers(resolved)
}

// States of a ConfinementStatus.
const (
	ConfinedWholly  = "confined"
	confinedPartly  = "partly"
	confinedNotAble = "not confined"
	confinedOff     = "off"
)

// ConfinementStatus is how one HSM's process is confined.
type ConfinementStatus struct {
	HSM     string `json:"hsm"`
	State   string `json:"state"`             // confined, partly, not confined, off
	Mode    string `json:"mode"`              // of the configuration
	Kernel  string `json:"kernel"`            // what the kernel has for it
	User    string `json:"user,omitempty"`    // that it runs as, if not the proxy's
	Missing string `json:"missing,omitempty"` // what it can do although it should not

	// Stale: it can reach files that the configuration names since it was started.
	Stale bool `json:"stale,omitempty"`
}

func (c *Confinement) status() ConfinementStatus {
	s := ConfinementStatus{
		HSM: c.hsm.Name, State: ConfinedWholly, Mode: c.hsm.Confine.Mode,
		Kernel: c.kernel.String(), User: c.hsm.User, Missing: c.kernel.Missing(),
	}
	switch {
	case s.Mode == config.ConfineOff:
		s.State, s.Missing = confinedOff, ""
		return s
	case c.kernel == 0:
		s.State = confinedNotAble
		return s
	case !c.kernel.Complete():
		s.State = confinedPartly
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Stale = c.stale
	return s
}

// announce logs how the process that is about to start is confined.
func (c *Confinement) announce(log *zap.Logger) {
	s := c.status()
	level := zap.InfoLevel
	if s.State != ConfinedWholly {
		level = zap.WarnLevel
	}
	log.Log(level, "the HSM's process is "+s.words(), zap.String("hsm", s.HSM),
		zap.String("mode", s.Mode), zap.String("kernel", s.Kernel), zap.String("user", s.User),
		zap.String("missing", s.Missing))
}

// Attention is what an operator should look at; "" if nothing. That confinement is switched off is
// known to who did it.
func (s ConfinementStatus) Attention() string {
	switch {
	case s.State == confinedNotAble || s.State == confinedPartly:
		return fmt.Sprintf("The process of %s is %s: this kernel has %s, so %s.",
			s.HSM, s.words(), s.Kernel, s.Missing)
	case s.Stale:
		return fmt.Sprintf(
			"The process of %s can reach files that the configuration names since it "+
				"was started: run xks-proxy hsm restart %s.",
			s.HSM,
			s.HSM,
		)
	}
	return ""
}

// words is the state within a sentence.
func (s ConfinementStatus) words() string {
	switch s.State {
	case confinedPartly:
		return "only partly confined"
	case confinedOff:
		return "not confined (confine.mode: off)"
	}
	return s.State
}

// fact is the state for a line of status.
func (s ConfinementStatus) fact() string {
	text := s.words()
	if s.State != confinedOff {
		text += ", " + s.Kernel
	}
	if s.Mode == config.ConfineStrict {
		text += ", strict"
	}
	if s.User != "" {
		text += ", as user " + s.User
	}
	return text
}

// ConfinementFacts are the lines of status: HSMs of which the same is true share one.
func ConfinementFacts(all []ConfinementStatus) []string {
	var texts []string
	names := map[string][]string{}
	for _, c := range all {
		if names[c.fact()] == nil {
			texts = append(texts, c.fact())
		}
		names[c.fact()] = append(names[c.fact()], c.HSM)
	}
	for i, text := range texts {
		texts[i] = strings.Join(names[text], ", ") + ": " + text
	}
	return texts
}

// Confinements are those of the HSMs that are served, in the order of the configuration.
func (f *Fleet) Confinements() []ConfinementStatus {
	g := f.Shown()
	if g == nil {
		return nil
	}
	var all []ConfinementStatus
	for _, h := range g.Config.HSMs {
		if running := g.hsms[h.Name]; running != nil {
			all = append(all, running.spec.confinement.status())
		}
	}
	return all
}
