package cli

// Orders given at once for one HSM: none undoes another, and what is drained in the end is
// what an operator wanted.

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/fleet"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// An order that had no turn in time is a conflict to its caller.
func TestStatusOfAnOrderUnderWay(t *testing.T) {
	if got := socket.StatusOf(fleet.Refuse(fleet.ErrUnderWay, "not now")); got != http.StatusConflict {
		t.Errorf("%d", got)
	}
}

// slowRestart makes a process come back after a while only, as real ones do. What it returns
// closes when the restart has begun.
func (p *fakeProcess) slowRestart(d time.Duration) <-chan struct{} {
	begun := make(chan struct{}, 10)
	p.restarts = func(s *worker.State) {
		s.Phase = worker.Starting
		begun <- struct{}{}
		time.AfterFunc(d, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.state.Phase, p.state.PID, p.state.Restarts = worker.Running, p.state.PID+100, p.state.Restarts+1
		})
	}
	return begun
}

// What an operator drains while a restart is under way stays drained.
func TestDrainDuringARestart(t *testing.T) {
	rig := newAdminRig(t)
	begun := rig.processes["hsm-a"].(*fakeProcess).slowRestart(400 * time.Millisecond)
	var restart sync.WaitGroup
	restart.Go(func() {
		stdout, stderr, code := rig.run(t, "restart", "hsm-a")
		if code != 0 ||
			!strings.HasPrefix(stdout, "hsm-a has a new process, 1100, and is in service again") {
			t.Errorf("restart: exit code %d: %s%s", code, stdout, stderr)
		}
	})
	<-begun
	stdout, stderr, code := rig.run(t, "drain", "hsm-a", "--timeout", "50ms")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "a restart by ") ||
		!strings.Contains(stderr, "nothing was changed for hsm-a") {
		t.Errorf("a drain that cannot wait: exit code %d: %s%s", code, stdout, stderr)
	}
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	restart.Wait()
	time.Sleep(200 * time.Millisecond) // several probes
	if s := rig.service(0, "hsm-a"); s != status.Drained {
		t.Errorf("hsm-a was drained during a restart and is %s", s)
	}
}

// Two restarts at once are two restarts, and leave an HSM that was drained before drained.
func TestTwoRestartsAtOnce(t *testing.T) {
	for _, drained := range []bool{false, true} {
		rig := newAdminRig(t)
		if drained {
			rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
		}
		process := rig.processes["hsm-a"].(*fakeProcess)
		process.slowRestart(100 * time.Millisecond)
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				stdout, stderr, code := rig.run(t, "restart", "hsm-a")
				if code != 0 {
					t.Errorf("restart: exit code %d: %s%s", code, stdout, stderr)
				}
			})
		}
		both.Wait()
		if n := process.State().Restarts; n != 2 {
			t.Errorf("%d restarts", n)
		}
		if s := rig.service(0, "hsm-a"); (s == status.Drained) != drained {
			t.Errorf("drained before: %t; now %s", drained, s)
		}
	}
}

// Calls that requests have given up run on in the module: an HSM with such is not free to be
// unplugged.
func TestDrainWaitsForTheModule(t *testing.T) {
	rig := newAdminRig(t)
	process := rig.processes["hsm-a"].(*fakeProcess)
	process.setInFlight(8)
	rig.want(
		t,
		1,
		"xks-proxy: hsm-a gets no new request, and no request waits for it, but 8 calls hang in "+
			"the module. It stays drained. xks-proxy hsm restart hsm-a ends its process and "+
			"leaves it drained\n",
		"drain",
		"hsm-a",
		"--timeout",
		"100ms",
	)
	if s := rig.service(0, "hsm-a"); s != status.Drained {
		t.Errorf("hsm-a is %s", s)
	}
	time.AfterFunc(100*time.Millisecond, func() { process.setInFlight(0) })
	rig.want(t, 0, "hsm-a is drained: nothing is in flight on it", "drain", "hsm-a")
}

func (p *fakeProcess) setInFlight(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.InFlight = n
}

// While the proxy starts there are processes and no groups yet: list says so, orders are refused.
func TestOrdersDuringTheStart(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Groups = func() []*group.Group { return nil }
	for _, order := range []string{"drain", "resume", "restart"} {
		rig.want(
			t,
			1,
			"xks-proxy: the proxy is still starting and waits for its HSMs: nothing was changed; ",
			order,
			"hsm-a",
		)
	}
	rig.want(
		t,
		0,
		"The proxy is starting: it waits for its HSMs and serves nobody yet.\n\n  HSM    "+
			"PROCESS\n  hsm-a  running ",
		"list",
	)
}

// A command line that names no HSM is told what is missing.
func TestOrderWithoutAnHSM(t *testing.T) {
	rig := newAdminRig(t)
	const want = "xks-proxy: which HSM? Give its name: xks-proxy hsm drain NAME (xks-proxy hsm " +
		"list prints the names)\n"
	rig.want(t, command.ExitUsage, want, "drain")
	rig.want(t, command.ExitUsage, want, "drain", "")
	rig.want(
		t,
		command.ExitUsage,
		"xks-proxy: one HSM at a time, not 2\n",
		"drain",
		"hsm-a",
		"hsm-b",
	)
}
