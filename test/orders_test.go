package test

// Orders of an operator at a bad time: two at once, and for an HSM whose module hangs.

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/status"
	"xks-proxy/test/faulty"
)

var errNotYet = errors.New("the fault has not happened yet")

// What was drained while a restart was under way stays drained.
func TestOrdersAtOnce(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	for range 3 {
		var orders sync.WaitGroup
		for _, order := range []string{"restart", "drain", "restart"} {
			orders.Go(func() {
				stdout, stderr, code := command(t, "hsm", order, "hsm-a", "--config", p.file)
				if code != 0 {
					t.Errorf("%s: exit code %d: %s%s", order, code, stdout, stderr)
				}
			})
			time.Sleep(10 * time.Millisecond) // the second comes in the middle of the first
		}
		orders.Wait()
		time.Sleep(1500 * time.Millisecond) // a probe at least
		if m := p.list(t).member(t, "hsm-a"); m.Service != status.Drained {
			t.Errorf("hsm-a was drained and is %s", m.Service)
		}
		p.hsm(t, "hsm-a is in service", "resume", "hsm-a")
	}
	p.wantHealthy(t)
}

// An HSM with calls that hang in its module is not free to be unplugged, although no request
// waits for it any more; a restart makes it so, and leaves it drained.
func TestDrainOfAHungHSM(t *testing.T) {
	t.Parallel()
	var controls []*faulty.Control
	p := newProxy(t, func(s *settings) {
		controls = s.misbehave(t)
		s.Group["attempt_timeout"], s.Group["hedge_after"] = "500ms", "300ms"
		s.HSMs[0]["hang_timeout"] = "1m" // else the program ends the process itself, before the operator looks
	})
	err := controls[0].Set(faulty.Rule{Function: "C_Encrypt", Action: faulty.Hang, Times: 2})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error { // probes and requests run into it
		p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		if controls[0].Injected() == 0 {
			return errNotYet
		}
		return nil
	})
	p.hsmFails(t, " in the module. It stays drained. xks-proxy hsm restart hsm-a ends its process and leaves it drained", "drain", "hsm-a", "--timeout", "4s")
	p.hsm(t, "hsm-a has a new process, ", "restart", "hsm-a")
	p.hsm(t, "hsm-a is drained: nothing is in flight on it", "drain", "hsm-a")
	p.hsm(t, "hsm-a is in service", "resume", "hsm-a")
	p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool { return strings.Contains(line, `"order":"restart"`) })
	p.wantHealthy(t)
}
