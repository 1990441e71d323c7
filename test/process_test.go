package test

// How the process of an HSM opens its token, lists its keys, lives and ends, with modules that do
// as SoftHSM does not (requirements R1, R2, X7).

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/test/faulty"
)

// playing has both HSMs behave like this from the start.
func (s *settings) playing(
	t testing.TB, manners faulty.Manners, rules ...faulty.Rule,
) []*faulty.Control {
	t.Helper()
	controls := s.misbehave(t)
	for _, control := range controls {
		err := control.Play(manners)
		if err != nil {
			t.Fatal(err)
		}
		err = control.Set(rules...)
		if err != nil {
			t.Fatal(err)
		}
	}
	return controls
}

// TestSessionLimit: with a limit of 12 sessions, said as CKR_DEVICE_MEMORY, 1,849 of 4,500 requests
// failed and both HSMs went out.
func TestSessionLimit(t *testing.T) {
	p := newProxy(t, func(s *settings) {
		s.withSomeLeisure()
		s.playing(t, faulty.Manners{MaxSessions: 12, SessionCode: 0x31})
		for _, h := range s.HSMs {
			h["sessions"] = 32
		}
	})
	p.waitActive(t, "hsm-a", "hsm-b")
	l := p.startLoad(t, http1, 225, 32)
	time.Sleep(10 * time.Second)
	l.wantNoFailure(t, 4000)
	p.waitActive(t, "hsm-a", "hsm-b")
	for _, m := range p.list(t).Groups[0].Members {
		if m.Trips > 0 || m.Faults > 0 {
			t.Errorf("%s: %d trips, %d faults, %s", m.HSM, m.Trips, m.Faults, m.LastFault)
		}
	}
}

// TestListForEachCaller: a module whose calls work through one function list only.
func TestListForEachCaller(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.withSomeLeisure()
		s.playing(t, faulty.Manners{OwnLists: true})
	})
	p.waitActive(t, "hsm-a", "hsm-b")
	p.wantBothServe(t, p.client(t, http1))
}

// TestResetOfBoth: every session of both HSMs fails at once, and the servers are up. It was an
// outage of 5 s. The codes are tried side by side, but not beside other tests: it is about time.
func TestResetOfBoth(t *testing.T) {
	for _, code := range []hsm.CKR{0x30, 0x190, 0xB3} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			var controls []*faulty.Control
			p := newProxy(t, func(s *settings) {
				s.withSomeLeisure()
				controls = s.playing(t, faulty.Manners{})
			})
			p.waitActive(t, "hsm-a", "hsm-b")
			time.Sleep(6 * time.Second) // until a process counts as one that served for long
			l := p.startLoad(t, http1, 100, 8)
			time.Sleep(time.Second)
			for _, control := range controls {
				control.ResetSessions(code)
			}
			time.Sleep(3 * time.Second)
			l.end()
			t.Logf("%d of %d failed, the slowest took %v",
				len(l.failures), l.count(), l.percentile(100))
			if len(l.failures) > 0 {
				t.Error(l.failures[0])
			}
			if slowest := l.percentile(100); slowest > 2*time.Second {
				t.Errorf("a request took %v", slowest)
			}
		})
	}
}

// TestSlowModule: a module takes 12 s to start and 6 ms for each attribute call, and there are many
// keys. It was killed and started again without end.
func TestSlowModule(t *testing.T) {
	t.Parallel()
	const count = 1000
	var keys []pkcs11.NewKey
	for i := range count {
		keys = append(keys, newKey(fmt.Sprintf("slow-%04d", i), 1))
	}
	p := newProxy(t, func(s *settings) {
		s.withSomeLeisure()
		controls := s.misbehave(t)
		slow := faulty.Rule{Function: "C_GetAttributeValue", Action: faulty.Delay}
		start := faulty.Rule{Function: "C_Initialize", Action: faulty.Delay}
		slow.Delay, start.Delay = 6*time.Millisecond, 12*time.Second
		for _, control := range controls {
			err := control.Set(slow, start)
			if err != nil {
				t.Fatal(err)
			}
		}
	}, keys...)
	p.waitActive(t, "hsm-a", "hsm-b")
	listed := func() bool {
		for _, m := range p.list(t).Groups[0].Members {
			if m.KeysListed.IsZero() {
				return false
			}
		}
		return true
	}
	c := p.client(t, http1)
	early := !listed()
	s := c.encrypt(t, "slow-0999", encryptBody([]byte("found live"), nil))
	if got := c.decrypt(t, "slow-0999", s, nil); string(got) != "found live" {
		t.Errorf("decrypted to %q", got)
	}
	if !early {
		t.Error("the keys were listed before the first request: this test shows nothing")
	}
	for deadline := time.Now().Add(time.Minute); !listed(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the keys are never listed")
		}
	}
	for name, process := range p.list(t).Processes {
		if process.Restarts > 0 {
			t.Errorf("%s was restarted %d times", name, process.Restarts)
		}
	}
}

// TestUnreadableObject: one object that cannot be read kept the whole HSM out.
func TestUnreadableObject(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(s *settings) {
		s.withSomeLeisure()
		s.playing(t, faulty.Manners{}, faulty.Rule{
			Function: "C_GetAttributeValue", Label: "broken", Action: faulty.Return, Code: 0x80000001,
		})
	}, newKey("broken", 1))
	p.waitActive(t, "hsm-a", "hsm-b")
	p.wantBothServe(t, p.client(t, http1))
	for _, m := range p.list(t).Groups[0].Members {
		if len(m.Unreadable) != 1 || m.Unreadable[0].Handle == 0 ||
			!strings.Contains(m.Unreadable[0].Code, "0x80000001") {
			t.Errorf("%s: %+v", m.HSM, m.Unreadable)
		}
	}
	stdout, _, _ := command(t, "hsm", "list", "--config", p.file)
	if !strings.Contains(stdout, "cannot be read and is left out") {
		t.Errorf("hsm list says:\n%s", stdout)
	}
	r := p.client(t, http1).post(t, encryptURI("broken"), encryptBody([]byte("x"), nil))
	r.wantError(t, 500, "InternalException")
}

// TestHelpers: what the module starts ends with its process, also when the proxy is killed.
func TestHelpers(t *testing.T) {
	for _, kind := range []faulty.Helper{faulty.HelperIgnoreTerm, faulty.HelperSetsid} {
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			t.Parallel()
			var controls []*faulty.Control
			p := newProxy(t, func(s *settings) {
				s.withSomeLeisure()
				controls = s.playing(t, faulty.Manners{Helper: kind})
			})
			p.waitActive(t, "hsm-a", "hsm-b")
			first := controls[0].Helpers()
			t.Cleanup(func() {
				for _, pid := range append(controls[0].Helpers(), controls[1].Helpers()...) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			})
			if len(first) == 0 {
				t.Fatal("no helper was started")
			}
			p.killWorker(t, "hsm-a")
			for _, pid := range first {
				waitGone(t, pid)
			}
			p.waitActive(t, "hsm-a")
			_ = p.Signal(syscall.SIGKILL)
			for _, pid := range append(controls[0].Helpers(), controls[1].Helpers()...) {
				waitGone(t, pid)
			}
		})
	}
}
