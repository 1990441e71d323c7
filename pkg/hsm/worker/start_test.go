package worker

// Processes that do not come up, and what is done about it.

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
)

func TestStartFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		open   string
		kind   error
		says   string
	}{
		{name: "PIN", open: "pin", kind: hsm.ErrPINIncorrect, says: "C_Login: CKR_PIN_INCORRECT (0xA0)"},
		{name: "token", open: "no-token", kind: hsm.ErrTokenNotFound, says: "tokens that are there: b, c"},
		{name: "exit", open: "exit", kind: hsm.ErrUnavailable, says: "exit status 7"},
		{name: "hang", open: "hang", kind: hsm.ErrUnavailable, says: "did not open the token within 1s",
			change: func(c *Config) { c.StartTimeout = time.Second }},
		{name: "no such program", kind: hsm.ErrUnavailable, says: "no such file",
			change: func(c *Config) { c.Command = []string{"/nonexistent/xks-proxy", "hsm-worker"} }},
		{name: "another program", kind: hsm.ErrUnavailable, says: "exit status",
			change: func(c *Config) { c.Command = []string{"/bin/sh", "-c", "exit 0"} }},
		{name: "another protocol", kind: hsm.ErrUnavailable, says: "not the HSM worker protocol",
			change: func(c *Config) { c.Command = []string{"/bin/sh", "-c", "echo hello, I am a shell >&3; sleep 10"} }},
		{name: "closes its socket and lives on", kind: hsm.ErrUnavailable, says: "closed the connection and ended (signal: killed)",
			change: func(c *Config) { c.Command = []string{"/bin/sh", "-c", "exec 3>&-; exec sleep 100"} }},
		{name: "no such directory", kind: hsm.ErrUnavailable, says: "no such file",
			change: func(c *Config) { c.Dir = "/nonexistent" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t, testSettings{Open: c.open})
			if c.change != nil {
				c.change(&config)
			}
			w := startWorker(t, config)
			begin := time.Now()
			err := w.Ready(within(t, 20*time.Second))
			e := wantKind(t, err, c.kind)
			if !strings.Contains(e.Error(), c.says) {
				t.Errorf("error is %q, want %q in it", e, c.says)
			}
			t.Logf("after %v: %v", time.Since(begin), e)
			_, err = w.Encrypt(t.Context(), key1, nil, nil)
			wantKind(t, err, hsm.ErrUnavailable)
		})
	}
}

func TestReadyTakesAContext(t *testing.T) {
	w := startWorker(t, testConfig(t, testSettings{Open: "hang"}))
	err := w.Ready(within(t, 50*time.Millisecond))
	wantKind(t, err, hsm.ErrTimeout)
	begin := time.Now()
	err = w.Close(within(t, 5*time.Second))
	if err != nil || time.Since(begin) > 4*time.Second {
		t.Errorf("Close of a process that hangs while it opens its token: %v after %v", err, time.Since(begin))
	}
}

// A start that hangs is given up, and another follows.
func TestStartHangs(t *testing.T) {
	well := filepath.Join(t.TempDir(), "well")
	c := testConfig(t, testSettings{Open: "hang-unless:" + well})
	c.StartTimeout = 300 * time.Millisecond
	w := startWorker(t, c)
	begin := time.Now()
	e := wantKind(t, w.Ready(within(t, 10*time.Second)), hsm.ErrUnavailable)
	if took := time.Since(begin); took > 8*time.Second || !strings.Contains(e.Detail, "within 300ms") {
		t.Errorf("after %v: %v", took, e)
	}
	eventually(t, 10*time.Second, "no second attempt", func() bool { return w.State().Restarts >= 1 })
	err := os.WriteFile(well, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the HSM is well and the worker is not", func() bool { return works(w) })
}

// A PIN that was refused is tried once, and once more when an operator says so.
func TestPINIsTriedOnce(t *testing.T) {
	log, seen := observer.New(zapcore.DebugLevel)
	good := filepath.Join(t.TempDir(), "pin-is-right")
	c := testConfig(t, testSettings{Open: "pin-unless:" + good})
	c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
	c.Log = zap.New(log)
	told := pinStory(&c)
	w := startWorker(t, c)
	wantKind(t, w.Ready(within(t, 10*time.Second)), hsm.ErrPINIncorrect)
	if got := told(); len(got) != 1 || !errors.Is(got[0], hsm.ErrPINIncorrect) {
		t.Errorf("before Ready, OnPIN was told %v", got)
	}
	time.Sleep(500 * time.Millisecond)
	if s := w.State(); s.Restarts != 0 || s.Phase != Failed || !s.RetryAt.IsZero() || !s.PINRefused || !errors.Is(s.LastErr, hsm.ErrPINIncorrect) {
		t.Fatalf("state is %+v", s)
	}
	if seen.FilterMessageSnippet("correct the PIN, then run xks-proxy hsm restart hsm-a").Len() != 1 {
		t.Errorf("the log does not tell the operator what to do: %v", seen.All())
	}
	w.Restart("the test says so, and the PIN is still wrong")
	eventually(t, 10*time.Second, "Restart did not try the PIN", func() bool { return len(told()) == 2 })
	time.Sleep(200 * time.Millisecond)
	err := os.WriteFile(good, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w.Restart("PIN corrected")
	eventually(t, 10*time.Second, "the restarted process does not work", func() bool { return works(w) })
	if got := told(); len(got) != 3 || got[2] != nil || w.State().PINRefused {
		t.Errorf("OnPIN was told %v; state is %+v", got, w.State())
	}
}

// A token that is not there is looked for every BackoffMax, and found when it comes back.
func TestTokenComesBack(t *testing.T) {
	there := filepath.Join(t.TempDir(), "token")
	c := testConfig(t, testSettings{Open: "no-token-unless:" + there})
	c.BackoffMin, c.BackoffMax = time.Millisecond, 300*time.Millisecond
	w := startWorker(t, c)
	wantKind(t, w.Ready(within(t, 10*time.Second)), hsm.ErrTokenNotFound)
	time.Sleep(600 * time.Millisecond)
	if n := w.State().Restarts; n > 4 {
		t.Errorf("%d attempts in 0.6 s with a pause of 0.15 to 0.3 s", n)
	}
	err := os.WriteFile(there, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the token was not found again", func() bool { return works(w) })
}

// A call while the token cannot be opened says why not, with the code of the module.
func TestCallsSayWhyTheTokenIsAway(t *testing.T) {
	w := startWorker(t, testConfig(t, testSettings{Open: "unavailable"}))
	wantKind(t, w.Ready(within(t, 10*time.Second)), hsm.ErrUnavailable)
	_, err := w.Find(within(t, time.Second), "label")
	e := wantKind(t, err, hsm.ErrUnavailable)
	if !strings.Contains(e.Detail, "C_GetTokenInfo: CKR_GENERAL_ERROR") {
		t.Error(e)
	}
}

func TestRetry(t *testing.T) {
	crash := &hsm.Error{Kind: hsm.ErrUnavailable}
	r := retry{min: 50 * time.Millisecond, max: 5 * time.Second}
	var got []time.Duration
	for range 9 {
		d, again := r.after(crash, 0, 0)
		if !again {
			t.Fatal("no further attempt")
		}
		got = append(got, d)
	}
	ms := time.Millisecond
	want := []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5000 * ms, 5000 * ms}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("pauses are %v, want %v", got, want)
		}
	}
	if d, _ := r.after(crash, 4*time.Second, 0); d != 5*time.Second {
		t.Errorf("%v after having served for less than the longest pause", d)
	}
	for range 2 {
		if d, again := r.after(crash, 6*time.Second, 0); d != 0 || !again {
			t.Errorf("%v, %v after having served well", d, again)
		}
	}
	if d, _ := r.after(crash, 0, 0); d != 50*ms {
		t.Errorf("%v after the first failure since", d)
	}
	if d, _ := r.after(crash, 0, 0.999); d < 50*ms || d > 51*ms {
		t.Errorf("the jitter takes 100 ms down to %v, want half", d)
	}
	served := retry{min: 50 * ms, max: 5 * time.Second}
	for i, want := range []time.Duration{0, 50 * ms, 100 * ms} {
		if d, again := served.after(crash, ms, 0); d != want || !again {
			t.Errorf("%v, %v after process %d that had served for a moment, want %v", d, again, i+1, want)
		}
	}
	for _, kind := range []error{hsm.ErrTokenNotFound, hsm.ErrModule} {
		if d, again := r.after(&hsm.Error{Kind: kind}, 0, 0); d != 5*time.Second || !again {
			t.Errorf("%v: %v, %v", kind, d, again)
		}
	}
	for _, kind := range []error{hsm.ErrPINIncorrect, hsm.ErrPINLocked} {
		if _, again := r.after(&hsm.Error{Kind: kind}, time.Hour, 0); again {
			t.Errorf("%v is tried again", kind)
		}
	}
}

func TestValidate(t *testing.T) {
	_, err := Start(Config{})
	if err == nil || !strings.Contains(err.Error(), "the name is empty") || !strings.Contains(err.Error(), "the command is empty") {
		t.Errorf("an empty Config: %v", err)
	}
	for want, change := range map[string]func(*Config){
		"the settings are not JSON":                          func(c *Config) { c.Settings = []byte("1234 5") },
		"the settings are 131073 bytes":                      func(c *Config) { c.Settings = make([]byte, maxSettings+1) },
		"environment entry 2 is not NAME=value":              func(c *Config) { c.Env = []string{"A=b", "PIN"} },
		"the hang timeout is negative":                       func(c *Config) { c.HangTimeout = -1 },
		"the minimum back-off 1h0m0s is above the maximum 5": func(c *Config) { c.BackoffMin = time.Hour; c.BackoffMax = 0 },
		"calls in flight, at most 65536":                     func(c *Config) { c.MaxInFlight = 1 << 20 },
		"the number of hung calls is negative":               func(c *Config) { c.MaxHung = -1 },
	} {
		c := testConfig(t, testSettings{})
		change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234") {
			t.Errorf("error is %v, want %q", err, want)
		}
	}
}

func TestMaxHung(t *testing.T) {
	for _, c := range []struct{ set, sessions, want int }{{0, 1, 1}, {0, 2, 1}, {0, 8, 4}, {0, 9, 4}, {0, 32, 4}, {0, 3, 2}, {3, 8, 3}, {9, 8, 8}} {
		got := Config{MaxHung: c.set}.maxHung(c.sessions)
		if got != c.want {
			t.Errorf("MaxHung %d with %d sessions: %d, want %d", c.set, c.sessions, got, c.want)
		}
	}
}

// Both sides say which build they are when they do not understand each other.
func TestOtherProtocolVersion(t *testing.T) {
	theirs, ours := socketConns(t)
	done := make(chan error, 1)
	go func() { done <- serve(context.Background(), ours, openFake, func(int) {}) }()
	body := []byte(`{"protocol":99,"build":"v9","maxInFlight":1,"hangTimeout":1,"settings":{"pin":"4711"}}`)
	_, err := theirs.Write(appendFrame(nil, frame{kind: kindHello, body: body}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := newFrameReader(theirs, replyLimit).next()
	if err != nil {
		t.Fatal(err)
	}
	_, err = parseOpened("hsm-a", f)
	for _, err := range []error{err, <-done} {
		if err == nil || !strings.Contains(err.Error(), "version 99") || !strings.Contains(err.Error(), "restart it") || strings.Contains(err.Error(), "4711") {
			t.Errorf("error is %v", err)
		}
	}
	_, err = parseOpened("hsm-a", frame{kind: kindReady, body: []byte(`{"protocol":98,"sessions":1}`)})
	if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "version 98") {
		t.Errorf("error is %v", err)
	}
}

// The limit of an opening follows what openings take, and grows where it was too short.
func TestOpeningLimit(t *testing.T) {
	var o opening
	want := func(want time.Duration) {
		t.Helper()
		if got := o.limit(time.Minute); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	want(time.Minute)
	o.took(100 * time.Millisecond)
	want(10 * time.Second)
	o.took(4 * time.Second)
	want(16 * time.Second)
	o.missed++
	want(32 * time.Second)
	o.missed++
	want(time.Minute)
	o.took(time.Second)
	want(16 * time.Second)
}
