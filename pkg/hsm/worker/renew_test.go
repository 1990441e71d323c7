package worker

// A new process because every operation fails while the old one lives.

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// replaced waits until another process runs, and gives how long that took.
func replaced(t *testing.T, w *Worker, end func()) time.Duration {
	t.Helper()
	old, begin := w.State().PID, time.Now()
	end()
	eventually(t, 10*time.Second, "it is not replaced", func() bool {
		s := w.State()
		return s.Phase == Running && s.PID != old
	})
	return time.Since(begin)
}

// The first request is carried out at once, the second and third after the back-off.
func TestRenew(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.BackoffMin, c.BackoffMax = 400*time.Millisecond, time.Minute
	refreshed := false
	c.Refresh = func() (json.RawMessage, error) { refreshed = true; return c.Settings, nil }
	w := readyWorker(t, c)
	incarnation := w.Incarnation()
	renew := func() { w.Renew("every operation fails") }
	first := replaced(t, w, renew)
	reason := fmt.Sprint(w.State().LastErr)
	usual := replaced(t, w, func() { w.Restart("to compare") })
	if first > usual+350*time.Millisecond {
		t.Errorf("the first took %v", first)
	}
	if s := w.State(); !works(w) || !strings.Contains(reason, "every operation fails") {
		t.Errorf("state is %+v", s)
	}
	if w.Incarnation() <= incarnation {
		t.Error("the incarnation is the old one")
	}
	refreshed = false
	second, third := replaced(t, w, renew), replaced(t, w, renew)
	// A jitter takes up to half off.
	if second < 200*time.Millisecond || third < 400*time.Millisecond {
		t.Errorf("without back-off: %v, %v", second, third)
	}
	if refreshed {
		t.Error("the settings were read anew")
	}
	t.Logf("renewed after %v, %v, %v", first, second, third)
}

// A request that comes while no process is ready is about an earlier one.
func TestRenewWhileStarting(t *testing.T) {
	w := startWorker(t, testConfig(t, testSettings{}))
	w.Renew("too early")
	err := w.Ready(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	pid := w.State().PID
	time.Sleep(100 * time.Millisecond)
	if s := w.State(); s.PID != pid || s.Restarts != 0 {
		t.Errorf("state is %+v", s)
	}
}

// After a PIN that was refused the next process would have none to try.
func TestRenewKeepsRefusedPIN(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	_, _ = w.Encrypt(context.Background(), command("refuse"), nil, nil)
	refused := func() bool { return w.State().PINRefused }
	eventually(t, 5*time.Second, "the refusal is not seen", refused)
	w.Renew("every operation fails")
	time.Sleep(200 * time.Millisecond)
	if s := w.State(); s.Phase != Running || s.Restarts != 0 {
		t.Errorf("state is %+v", s)
	}
}
