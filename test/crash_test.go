package test

// A module that crashes: one line for the operator, which says so.

import (
	"strings"
	"testing"

	"xks-proxy/test/faulty"
)

func TestCrashIsReadable(t *testing.T) {
	t.Parallel()
	var controls []*faulty.Control
	p := newProxy(t, func(s *settings) { controls = s.misbehave(t) })
	for action, want := range map[faulty.Action]string{faulty.Crash: "crashed: SIGSEGV in C code (gcm_run)", faulty.Abort: "crashed: SIGABRT in C code (gcm_run)"} {
		p.waitActive(t, "hsm-a", "hsm-b")
		mark := p.log.mark()
		old := p.worker(t, "hsm-a")
		injected := controls[0].Injected()
		err := controls[0].Set(faulty.Rule{Function: "C_Encrypt", Action: action, Times: 1})
		if err != nil {
			t.Fatal(err)
		}
		c := p.client(t, http1)
		for controls[0].Injected() == injected {
			c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
		}
		controls[0].Clear()
		waitGone(t, old)
		eventually(t, startLimit, func() error { // until then it passes for well
			for _, line := range p.log.since(mark) {
				if strings.Contains(line, "will be started again") {
					return nil
				}
			}
			return errNotYet
		})
		p.waitActive(t, "hsm-a")
		told, traceback := 0, 0
		for _, line := range p.log.since(mark) {
			switch {
			case strings.Contains(line, "the HSM's process reports"):
				traceback++
				if !strings.Contains(line, `"level":"debug"`) {
					t.Errorf("a line of the traceback is above the level debug: %s", line)
				}
			case strings.Contains(line, "will be started again") && strings.Contains(line, want) && strings.Contains(line, `"level":"error"`):
				told++
			}
		}
		if told != 1 || traceback == 0 {
			t.Errorf("%d lines say %q, want one; %d lines of traceback; log:\n%s", told, want, traceback, strings.Join(p.log.since(mark), "\n"))
		}
	}
}
