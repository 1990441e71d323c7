package worker

// A PIN that is held back, or refused while the process runs.

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// pinStory records what OnPIN is told.
func pinStory(c *Config) func() []error {
	var mu sync.Mutex
	var story []error
	c.OnPIN = func(err error) {
		mu.Lock()
		defer mu.Unlock()
		story = append(story, err)
	}
	return func() []error {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(story)
	}
}

// A PIN that is held back is not tried before an operator says so.
func TestHeld(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
	c.Held = &hsm.Error{HSM: "hsm-a", Op: "log in", Kind: hsm.ErrPINIncorrect, Detail: "it was refused yesterday"}
	told := pinStory(&c)
	w := startWorker(t, c)
	err := w.Ready(within(t, 5*time.Second))
	if !errors.Is(err, c.Held) {
		t.Errorf("Ready says %v", err)
	}
	time.Sleep(200 * time.Millisecond)
	if s := w.State(); s.Phase != Failed || s.PID != 0 || !s.PINRefused || !s.RetryAt.IsZero() || s.LastErr != c.Held || len(told()) != 0 {
		t.Errorf("state is %+v, OnPIN was told %v", s, told())
	}
	_, err = w.Encrypt(t.Context(), key1, nil, nil)
	if e := wantKind(t, err, hsm.ErrUnavailable); !strings.Contains(e.Detail, "refused yesterday") {
		t.Errorf("a call says %v", e)
	}
	w.Restart("the operator says so")
	eventually(t, 10*time.Second, "Restart starts nothing", func() bool { return works(w) })
	if s := w.State(); s.PINRefused || s.Restarts != 0 || !slices.Equal(told(), []error{nil}) {
		t.Errorf("state is %+v, OnPIN was told %v", s, told())
	}
}

func TestCloseWhileHeld(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.Held = &hsm.Error{HSM: "hsm-a", Kind: hsm.ErrPINIncorrect}
	w := startWorker(t, c)
	_ = w.Ready(within(t, 5*time.Second))
	err := w.Close(within(t, 5*time.Second))
	if err != nil || w.State().Phase != Closed {
		t.Errorf("%v, %+v", err, w.State())
	}
}

// A PIN refused while the process runs, because somebody changed it on the HSM: the process
// goes on, and no other one tries that PIN, also if nobody waited for the answer.
func TestPINRefusedWhileRunning(t *testing.T) {
	for word, kind := range map[string]error{"refuse": hsm.ErrPINIncorrect, "refuse late": hsm.ErrPINLocked} {
		t.Run(word, func(t *testing.T) {
			c := testConfig(t, testSettings{})
			c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
			told := pinStory(&c)
			w := readyWorker(t, c)
			pid := w.State().PID
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				_, err := w.Encrypt(ctx, command(word), nil, nil)
				cancel()
				if err == nil {
					t.Fatal("no error")
				}
			}
			eventually(t, 5*time.Second, "the refusal is not noticed", func() bool { return w.State().PINRefused })
			if !works(w) || w.State().PID != pid {
				t.Errorf("the process did not go on: %+v", w.State())
			}
			_ = unix.Kill(pid, unix.SIGKILL)
			eventually(t, 5*time.Second, "the death is not seen", func() bool { return w.State().Phase == Failed && w.State().EndedAt != (time.Time{}) })
			time.Sleep(200 * time.Millisecond)
			s := w.State()
			if s.Phase != Failed || s.Restarts != 0 || !s.PINRefused || !errors.Is(s.LastErr, kind) || !strings.Contains(s.LastErr.Error(), "signal: killed") {
				t.Errorf("state is %+v", s)
			}
			if got := told(); len(got) != 2 || got[0] != nil || !errors.Is(got[1], kind) {
				t.Errorf("OnPIN was told %v", got)
			}
			w.Restart("PIN corrected")
			eventually(t, 10*time.Second, "Restart starts nothing", func() bool { return works(w) })
			if s := w.State(); s.PINRefused || len(told()) != 3 {
				t.Errorf("state is %+v, OnPIN was told %v", s, told())
			}
		})
	}
}

// A restart that was asked for is made at once, although the PIN was refused before.
func TestRestartAfterRefusal(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	_, err := w.Encrypt(t.Context(), command("refuse"), nil, nil)
	wantKind(t, err, hsm.ErrPINIncorrect)
	w.Restart("PIN corrected")
	eventually(t, 10*time.Second, "no new process works", func() bool { s := w.State(); return s.Restarts == 1 && !s.PINRefused && works(w) })
}

// What an operator corrected is read before the start that the operator asked for, and no
// other; what was refused is not tried again because a new one cannot be read.
func TestRefresh(t *testing.T) {
	c := testConfig(t, testSettings{Open: "pin"})
	c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
	told := pinStory(&c)
	var mu sync.Mutex
	var settings []byte
	var broken error
	reads := 0
	c.Refresh = func() (json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		reads++
		return settings, broken
	}
	will := func(s []byte, err error) {
		mu.Lock()
		defer mu.Unlock()
		settings, broken = s, err
	}
	w := startWorker(t, c)
	wantKind(t, w.Ready(within(t, 10*time.Second)), hsm.ErrPINIncorrect)
	right := mustJSON(testSettings{Sessions: 4})
	for _, wrong := range []struct {
		settings []byte
		err      error
		says     string
	}{
		{nil, errors.New("pin.txt does not exist"), "pin.txt does not exist"},
		{[]byte("1234 5"), nil, "the settings are not JSON"},
	} {
		will(wrong.settings, wrong.err)
		w.Restart("PIN corrected?")
		eventually(t, 5*time.Second, "the failure is not seen", func() bool {
			s := w.State()
			return s.Phase == Failed && s.PINRefused && strings.Contains(s.LastErr.Error(), wrong.says)
		})
		if len(told()) != 1 {
			t.Fatalf("the old PIN was tried: %v", told())
		}
	}
	will(right, nil)
	w.Restart("PIN corrected")
	eventually(t, 10*time.Second, "the new settings do not work", func() bool { return works(w) })

	_ = unix.Kill(w.State().PID, unix.SIGKILL)
	eventually(t, 10*time.Second, "no new process", func() bool { return w.State().Restarts == 2 && works(w) })
	will(nil, errors.New("pin.txt does not exist"))
	w.Restart("why not")
	eventually(t, 10*time.Second, "settings that were good are not used", func() bool { return w.State().Restarts == 3 && works(w) })
	mu.Lock()
	defer mu.Unlock()
	if reads != 4 {
		t.Errorf("read %d times in 4 restarts that were asked for", reads)
	}
}
