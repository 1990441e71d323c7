package worker

// A call that comes too late: is the HSM at fault, or are there too many calls?

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"xks-proxy/pkg/hsm"
)

// Too many calls for an HSM that works: the late ones say that it is busy, those
// that had a session do not.
func TestOverloadIsBusy(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{Sessions: 1}))
	var mu sync.Mutex
	done, busy := 0, 0
	var calls sync.WaitGroup
	for range 40 {
		calls.Go(func() {
			_, err := w.Encrypt(within(t, 200*time.Millisecond), command("sleep:20ms"), nil, nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				done++
				return
			}
			wantLate(t, err)
			if errors.Is(err, hsm.ErrBusy) {
				busy++
			}
		})
	}
	calls.Wait()
	if done < 3 || busy < 20 {
		t.Errorf("%d calls were answered, %d too late because the HSM was busy, %d for another reason", done, busy, 40-done-busy)
	}
}

func wantLate(t *testing.T, err error) {
	t.Helper()
	var e *hsm.Error
	if !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.HSM != "hsm-a" {
		t.Errorf("error is %v (%T)", err, err)
	}
}

// With all sessions hung nobody is merely busy, however long the queue is.
func TestHangIsNotBusy(t *testing.T) {
	c := testConfig(t, testSettings{Sessions: 1})
	c.HangTimeout = time.Hour
	w := readyWorker(t, c)
	pending(t, w, 1)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, err := w.Encrypt(within(t, 100*time.Millisecond), key1, nil, nil)
			wantLate(t, err)
			if errors.Is(err, hsm.ErrBusy) {
				t.Errorf("the HSM hangs, and a call says: %v", err)
			}
		})
	}
	calls.Wait()
	w.Restart("the test is over")
}

func TestLate(t *testing.T) {
	const sessions = 8
	full := sessions + listers // calls that may all be in sessions
	for _, c := range []struct {
		name            string
		ahead, answered int
		hung            int
		busy            bool
	}{
		{"had a session at once", 3, 1, 0, false},
		{"nothing was answered", full + 50, 0, 0, false},
		{"one was answered, fifty wait", full + 50, 1, 0, true},
		{"next in the queue", full + 50, 50, 0, true},
		{"had a session in the end", full + 50, 51, 0, false},
		{"calls hang", full + 50, 1, 1, false},
	} {
		l := &link{sessions: sessions, answered: uint64(1000 + c.answered), hung: c.hung}
		err := l.late(&call{ahead: c.ahead, answered: 1000}, context.DeadlineExceeded)
		if errors.Is(err, hsm.ErrBusy) != c.busy || !errors.Is(err, hsm.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// What the process says of a job that found no session in time; nobody waits for it any more.
func TestLateness(t *testing.T) {
	clock := newRunClock()
	clock.ran = time.Minute
	s := &server{clock: clock, patience: 2 * time.Second, sessions: make([]session, 2)}
	if err := s.lateness(); !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("idle sessions: %v", err)
	}
	s.sessions[0].since.Store(int64(59 * time.Second))
	if err := s.lateness(); !errors.Is(err, hsm.ErrBusy) {
		t.Errorf("a call of one second: %v", err)
	}
	s.sessions[0].since.Store(int64(50 * time.Second))
	if err := s.lateness(); !errors.Is(err, hsm.ErrTimeout) {
		t.Errorf("a hung call: %v", err)
	}
}
