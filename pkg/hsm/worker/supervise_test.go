package worker

// What a process can do to its parent, and how soon it is replaced.

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xks-proxy/pkg/hsm"
)

// works reports whether calls succeed.
func works(w *Worker) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := w.Encrypt(ctx, key1, nil, []byte("x"))
	return err == nil
}

// pending starts calls that hang, and gives their errors when they are all over.
func pending(t *testing.T, w *Worker, n int) <-chan []error {
	t.Helper()
	before := w.State().InFlight
	results := make(chan []error, 1)
	var calls sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		calls.Go(func() { _, errs[i] = w.Encrypt(context.Background(), command("hang"), nil, nil) })
	}
	go func() { calls.Wait(); results <- errs }()
	eventually(t, 5*time.Second, "the calls are not in flight", func() bool { return w.State().InFlight == before+n })
	return results
}

// wantAllGone waits for pending calls to fail because their process is gone.
func wantAllGone(t *testing.T, results <-chan []error, bound time.Duration) {
	t.Helper()
	select {
	case errs := <-results:
		for _, err := range errs {
			wantKind(t, err, hsm.ErrUnavailable)
		}
	case <-time.After(bound):
		t.Fatalf("after %v calls still wait for a process that is gone", bound)
	}
}

// A process that ends, however, fails its calls at once and is replaced.
func TestProcessDies(t *testing.T) {
	kill := func(w *Worker) { _ = unix.Kill(w.State().PID, unix.SIGKILL) }
	tell := func(word string) func(*Worker) {
		return func(w *Worker) { go func() { _, _ = w.Encrypt(context.Background(), command(word), nil, nil) }() }
	}
	for _, c := range []struct {
		name string
		end  func(*Worker)
		says string
	}{
		{"SIGKILL", kill, "signal: killed"},
		{"exit", tell("exit"), "exit status 3"},
		{"abort", tell("abort"), "crashed: SIGABRT"}, // Go catches the signal, prints, and exits
		{"segmentation fault", tell("segv"), "crashed: SIGSEGV"},
		{"panic", tell("panic"), "crashed: panic: the vendor's library is broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := readyWorker(t, testConfig(t, testSettings{}))
			old := w.State()
			results := pending(t, w, 2)
			begin := time.Now()
			c.end(w)
			wantAllGone(t, results, 5*time.Second)
			failed := time.Since(begin)
			eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
			s := w.State()
			if s.Phase != Running || s.PID == old.PID || s.Restarts != 1 || s.InFlight != 0 {
				t.Errorf("state is %+v", s)
			}
			if s.LastErr == nil || !strings.Contains(s.LastErr.Error(), c.says) {
				t.Errorf("last error is %v, want %q in it", s.LastErr, c.says)
			}
			t.Logf("calls failed after %v, a new process worked after %v", failed, time.Since(begin))
		})
	}
}

// While there is no process, calls fail at once and say why.
func TestCallsWhileDown(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.BackoffMin, c.BackoffMax = time.Minute, time.Minute
	w := readyWorker(t, c)
	replaced(t, w, func() { _ = unix.Kill(w.State().PID, unix.SIGKILL) }) // the first successor comes at once
	_ = unix.Kill(w.State().PID, unix.SIGKILL)
	eventually(t, 5*time.Second, "the death is not seen", func() bool { return w.State().Phase == Failed })
	eventually(t, 5*time.Second, "no next attempt", func() bool { return !w.State().RetryAt.IsZero() })
	begin := time.Now()
	_, err := w.Encrypt(context.Background(), key1, nil, nil)
	if took := time.Since(begin); took > 5*time.Second { // the next attempt is a minute away
		t.Errorf("a call while down took %v", took)
	}
	e := wantKind(t, err, hsm.ErrUnavailable)
	if !strings.Contains(e.Detail, "failed") || !strings.Contains(e.Detail, "signal: killed") {
		t.Errorf("the call says %q", e.Detail)
	}
	if w.Info().Label != "fake" {
		t.Error("Info is forgotten while the process is down")
	}
	w.Restart("the test says so")
	eventually(t, 10*time.Second, "Restart did not cut the pause short", func() bool { return works(w) })
}

// With all sessions hung in C, pings are still answered; the process is killed for
// the hung calls, not for silence.
func TestHungCalls(t *testing.T) {
	c := testConfig(t, testSettings{Sessions: 4})
	c.HangTimeout, c.PingInterval = 500*time.Millisecond, 100*time.Millisecond
	w := readyWorker(t, c)

	one := pending(t, w, 1)
	eventually(t, 5*time.Second, "the hung call is not counted", func() bool { return w.State().Hung == 1 })
	if !works(w) || w.State().Restarts != 0 {
		t.Fatal("one hung call of four sessions took the HSM down")
	}
	begin := time.Now()
	rest := pending(t, w, 5) // more than there are sessions
	wantAllGone(t, one, 10*time.Second)
	wantAllGone(t, rest, time.Second)
	took := time.Since(begin)
	if took < 400*time.Millisecond {
		t.Errorf("killed after %v, before the calls were hung", took)
	}
	eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
	if s := w.State(); s.LastErr == nil || !strings.Contains(s.LastErr.Error(), "hang in the HSM") || s.Hung != 0 {
		t.Errorf("state is %+v", s)
	}
	t.Logf("hang timeout %v, ping interval %v: killed after %v", c.HangTimeout, c.PingInterval, took)
}

// A call whose caller has left still counts as hung.
func TestHungCallsWithoutCallers(t *testing.T) {
	c := testConfig(t, testSettings{Sessions: 2})
	c.HangTimeout, c.PingInterval, c.MaxHung = 300*time.Millisecond, 50*time.Millisecond, 2
	w := readyWorker(t, c)
	for range 2 {
		_, err := w.Encrypt(within(t, 20*time.Millisecond), command("hang"), nil, nil)
		wantKind(t, err, hsm.ErrTimeout)
	}
	eventually(t, 10*time.Second, "the process was not replaced", func() bool { return w.State().Restarts == 1 && works(w) })
}

// A queue is no hang: calls that only wait for a session do not count.
func TestOverloadIsNoHang(t *testing.T) {
	c := testConfig(t, testSettings{Sessions: 1})
	c.HangTimeout, c.PingInterval = 1500*time.Millisecond, 50*time.Millisecond
	w := readyWorker(t, c)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			_, err := w.Encrypt(context.Background(), command("sleep:120ms"), nil, nil)
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait() // two seconds in the queue for the last
	if s := w.State(); s.Restarts != 0 {
		t.Errorf("state is %+v", s)
	}
}

// makeDeaf lets the process of w read no more.
func makeDeaf(t *testing.T, w *Worker) {
	t.Helper()
	_, err := w.Encrypt(within(t, 5*time.Second), command("deaf"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.Encrypt(within(t, 10*time.Millisecond), key1, nil, nil) // its last Read may have begun before
	if err == nil {
		t.Log("one more call was answered")
	}
}

// A process that reads nothing answers no ping: callers see that the HSM is busy or
// late, and none of them waits longer than it wants.
func TestDeafProcess(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.PingInterval, c.PingTimeout = 200*time.Millisecond, 6*time.Second
	w := readyWorker(t, c)
	old := w.State().PID
	results := pending(t, w, 1)
	begin := time.Now()
	makeDeaf(t, w)
	frozen := time.Now()
	var calls sync.WaitGroup
	var mu sync.Mutex
	counts := map[error]int{}
	big := make([]byte, hsm.MaxDataSize)
	for range 200 { // 13 MB: the socket takes 0.2, the outbox 4
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := w.Encrypt(ctx, key1, nil, big)
			mu.Lock()
			defer mu.Unlock()
			for _, kind := range []error{hsm.ErrBusy, hsm.ErrTimeout, hsm.ErrUnavailable} {
				if errors.Is(err, kind) {
					counts[kind]++
				}
			}
		})
	}
	calls.Wait()
	if took := time.Since(frozen); took > 4*time.Second {
		t.Errorf("callers with 100 ms waited up to %v", took)
	}
	if counts[hsm.ErrBusy] == 0 || counts[hsm.ErrBusy]+counts[hsm.ErrTimeout] != 200 {
		t.Errorf("outcomes: %v", counts)
	}
	wantAllGone(t, results, 10*time.Second)
	took := time.Since(begin)
	if took < c.PingTimeout-c.PingInterval {
		t.Errorf("killed after %v, before the ping was late", took)
	}
	eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
	if s := w.State(); s.PID == old || s.LastErr == nil || !strings.Contains(s.LastErr.Error(), "ping") {
		t.Errorf("state is %+v", s)
	}
	t.Logf("ping every %v, timeout %v: killed after %v, a new process worked after %v; busy %d, late %d",
		c.PingInterval, c.PingTimeout, took, time.Since(begin), counts[hsm.ErrBusy], counts[hsm.ErrTimeout])
}

func TestRestart(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	old := w.State().PID
	results := pending(t, w, 1)
	w.Restart("new firmware")
	wantAllGone(t, results, 5*time.Second)
	eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
	s := w.State()
	if s.PID == old || s.Restarts != 1 || !strings.Contains(s.LastErr.Error(), "new firmware") {
		t.Errorf("state is %+v", s)
	}
}

func TestClose(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	pid := w.State().PID
	answered := make(chan error, 1)
	go func() {
		_, err := w.Encrypt(context.Background(), command("sleep:300ms"), nil, []byte("x"))
		answered <- err
	}()
	eventually(t, 5*time.Second, "the call is not in flight", func() bool { return w.State().InFlight == 1 })
	err := w.Close(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	err = <-answered
	if err != nil {
		t.Errorf("the call in flight was not finished: %v", err)
	}
	_, err = w.Encrypt(t.Context(), key1, nil, nil)
	e := wantKind(t, err, hsm.ErrUnavailable)
	if !strings.Contains(e.Detail, "closed") || w.State().Phase != Closed {
		t.Errorf("after Close: %v, %+v", err, w.State())
	}
	if unix.Kill(pid, 0) == nil {
		t.Error("the process is still there")
	}
	err = w.Close(within(t, time.Second))
	if err != nil {
		t.Errorf("the second Close: %v", err)
	}
}

func TestCloseWithHungCalls(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	pid := w.State().PID
	results := pending(t, w, 1)
	begin := time.Now()
	err := w.Close(within(t, 200*time.Millisecond))
	took := time.Since(begin)
	wantKind(t, err, hsm.ErrTimeout)
	wantAllGone(t, results, 5*time.Second)
	if unix.Kill(pid, 0) == nil || took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// A process that served for long is replaced without a pause when it dies.
func TestReplacedAtOnce(t *testing.T) {
	c := testConfig(t, testSettings{})
	c.BackoffMin, c.BackoffMax = time.Second, time.Second // less jitter: 500 ms
	w := readyWorker(t, c)
	var took []time.Duration
	for range 5 {
		time.Sleep(1100 * time.Millisecond) // served for longer than the longest pause
		old := w.State().PID
		begin := time.Now()
		_ = unix.Kill(old, unix.SIGKILL)
		for w.link.Load() == nil || w.State().PID == old {
			if time.Since(begin) > 5*time.Second {
				t.Fatal("it is not replaced")
			}
			time.Sleep(100 * time.Microsecond)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	t.Logf("from SIGKILL to ready: p50 %v, all %v", took[2], took)
	if took[0] > 400*time.Millisecond {
		t.Errorf("the quickest of 5 took %v: there was a pause", took[0])
	}
}
