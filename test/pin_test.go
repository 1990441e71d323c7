package test

// A wrong PIN reaches the HSM once, as the HSM's module counts it: HSMs lock.

import (
	"testing"
	"time"

	"xks-proxy/test/faulty"
)

func TestWrongPINReachesTheHSMOnce(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	first := w.start(t, nil) // so that the program serves with one HSM of two
	first.wantHealthy(t)
	first.stop(t)
	writeFile(t, w.A.pinFile(), "not-the-pin\n")
	var controls []*faulty.Control
	var hsms []object
	edit := func(s *settings) {
		if hsms == nil {
			controls = s.misbehave(t)
			hsms = s.HSMs
		}
		s.HSMs = hsms
	}
	for start := range 2 { // a service manager starts the program again
		p := w.launch(t, edit)
		p.waitServingOrExit(t)
		select {
		case <-p.Exited():
		default:
			for range 20 {
				p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
			}
			time.Sleep(2 * time.Second) // two probes, and many times the least back-off
			p.stop(t)
		}
		if logins := controls[0].Calls("C_Login"); logins != 1 {
			t.Errorf("after start %d hsm-a has seen %d logins, want one; log:\n%s", start+1, logins, p.log.tail(20))
		}
	}
	if controls[1].Calls("C_Login") == 0 {
		t.Error("hsm-b, whose PIN is right, has seen no login: the count proves nothing")
	}
}
