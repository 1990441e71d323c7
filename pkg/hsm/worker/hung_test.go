package worker

// Fewer hung calls than the process is killed for at once, and hangs that others wait behind.

import (
	"context"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
)

// hungConfig kills for half of four sessions, seven with the listers', or after three seconds.
func hungConfig(t *testing.T) Config {
	c := testConfig(t, testSettings{Sessions: 4})
	c.HangTimeout, c.HungPatience, c.PingInterval = 200*time.Millisecond, 3*time.Second, 50*time.Millisecond
	return c
}

// One hung call costs a session only for a while, be it that of a request or of a search.
func TestOneHungCall(t *testing.T) {
	hang := map[string]func(*Worker){
		"encrypt": func(w *Worker) { _, _ = w.Encrypt(context.Background(), command("hang"), nil, nil) },
		"find":    func(w *Worker) { _, _ = w.Find(context.Background(), "hang") },
	}
	for name, call := range hang {
		t.Run(name, func(t *testing.T) {
			w := readyWorker(t, hungConfig(t))
			begin := time.Now()
			go call(w)
			eventually(t, 5*time.Second, "the hung call is not counted", func() bool { return w.State().Hung == 1 })
			if s := w.State(); !works(w) || s.Restarts != 0 || s.Oldest < 200*time.Millisecond {
				t.Errorf("state is %+v", s)
			}
			eventually(t, 10*time.Second, "the session is lost for good", func() bool { return w.State().Restarts == 1 && works(w) })
			took := time.Since(begin)
			if took < 3200*time.Millisecond {
				t.Errorf("killed after %v, without patience", took)
			}
			if s := w.State(); s.Hung != 0 || !strings.Contains(s.LastErr.Error(), "keep their sessions") {
				t.Errorf("state is %+v", s)
			}
			t.Logf("hang timeout 200 ms, patience 3 s: replaced after %v", took)
		})
	}
}

// A call that hangs with the login's turn: whoever waits for that turn hangs too.
func TestHangWithALock(t *testing.T) {
	c := hungConfig(t)
	c.HungPatience = time.Hour
	w := readyWorker(t, c)
	go func() { _, _ = w.Encrypt(context.Background(), command("hang in login"), nil, nil) }()
	eventually(t, 5*time.Second, "the call is not in a session", func() bool { return w.State().Busy == 1 })
	_, err := w.Encrypt(within(t, 50*time.Millisecond), command("log in"), nil, nil)
	wantKind(t, err, hsm.ErrTimeout)
	eventually(t, 10*time.Second, "the process was not replaced", func() bool { return w.State().Restarts == 1 && works(w) })
	if s := w.State(); !strings.Contains(s.LastErr.Error(), "2 calls hang") {
		t.Errorf("state is %+v", s)
	}
}
