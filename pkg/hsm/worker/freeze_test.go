package worker

// The proxy and its processes are stopped together and continued: a paused virtual machine, a
// frozen cgroup, a closed lid. Nobody is at fault, so nobody is killed.

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Calls that a frozen parent has in its process.
const (
	shortCall  = "sleep:20ms"
	longCall   = "sleep:3300ms" // longer than the default HangTimeout, and due soon after the freeze
	shortCalls = 4              // at once
	longCalls  = 6              // more than a process may have hung
)

// freezeTime is longer than the default HangTimeout and PingTimeout.
const freezeTime = 3 * time.Second

// frozenMain is a parent that is stopped and continued by the test. It says the PID of its process, then for each
// line that it reads, a command for longCalls calls, how often that process was replaced and how many of
// the calls failed. Meanwhile short calls come and go.
func frozenMain() int {
	w, err := Start(Config{Name: "frozen", Command: []string{"/proc/self/exe", argWorker, "frozen"}, Settings: mustJSON(testSettings{Sessions: 16})})
	if err == nil {
		err = w.Ready(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(w.State().PID)
	for range shortCalls {
		go func() {
			for {
				_, err := w.Encrypt(context.Background(), command(shortCall), nil, nil)
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		}()
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		word := in.Text()
		results := make(chan error, longCalls)
		for range longCalls {
			go func() {
				_, err := w.Encrypt(context.Background(), command(word), nil, nil)
				results <- err
			}()
		}
		failed := 0
		for range longCalls {
			if <-results != nil {
				failed++
			}
		}
		fmt.Println(w.State().Restarts, failed, w.State().LastErr)
	}
	return 0
}

// frozen is such a parent, as the test sees it.
type frozen struct {
	parent, child int
	in            io.Writer
	out           *bufio.Reader
}

func startFrozen(t *testing.T) *frozen {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", argParent, "frozen")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	f := &frozen{parent: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	_, err = fmt.Fscanln(f.out, &f.child)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// freeze stops both for a while and continues them in the given order, the second one later.
// It reports false if the machine was so slow that one was stopped alone for too long.
func (f *frozen) freeze(d time.Duration, childFirst bool, later time.Duration) bool {
	first, second := f.parent, f.child
	if childFirst {
		first, second = second, first
	}
	begin := time.Now()
	_ = unix.Kill(first, unix.SIGSTOP)
	_ = unix.Kill(second, unix.SIGSTOP)
	together := time.Since(begin) < haltPatience/4
	time.Sleep(d)
	_ = unix.Kill(first, unix.SIGCONT)
	time.Sleep(later)
	_ = unix.Kill(second, unix.SIGCONT)
	return together
}

// calls starts calls in the parent's process and gives what the parent says of them in the end.
func (f *frozen) calls(t *testing.T, word string) <-chan string {
	t.Helper()
	_, err := fmt.Fprintln(f.in, word)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		line, err := f.out.ReadString('\n')
		if err != nil {
			line = err.Error()
		}
		said <- line
	}()
	return said
}

// A freeze under load kills no process, in whatever order it ends, and fails none of the calls.
func TestFreeze(t *testing.T) {
	for _, childFirst := range []bool{true, false} {
		for _, later := range []time.Duration{0, 300 * time.Millisecond} {
			t.Run(fmt.Sprintf("child first %v, the other %v later", childFirst, later), func(t *testing.T) {
				t.Parallel()
				attempts(t, func() bool { return freezeUnderLoad(t, childFirst, later) })
			})
		}
	}
}

// attempts repeats a test that needs two processes stopped at once, for the machine may be too slow for that.
func attempts(t *testing.T, once func() bool) {
	t.Helper()
	for range 5 {
		if once() {
			return
		}
	}
	t.Fatal("the machine is too slow to stop two processes at once")
}

func freezeUnderLoad(t *testing.T, childFirst bool, later time.Duration) bool {
	f := startFrozen(t)
	said := f.calls(t, longCall)
	time.Sleep(100 * time.Millisecond) // the calls are in sessions by now
	if !f.freeze(freezeTime, childFirst, later) {
		return false
	}
	if line := <-said; !strings.HasPrefix(line, "0 0 ") {
		t.Errorf("replacements, failed calls, reason: %s", line)
	}
	time.Sleep(1200 * time.Millisecond) // a ping and its timeout
	if gone(f.child) {
		t.Error("the process was killed later")
	}
	return true
}

// Short freezes, again and again: a ping is under way at some of them, and its timer is late or nearly so.
func TestManyFreezes(t *testing.T) {
	t.Parallel()
	attempts(t, func() bool {
		f := startFrozen(t)
		for i := range 16 {
			d := time.Duration(60+100*(i%8)) * time.Millisecond
			if !f.freeze(d, i%2 == 0, d/4) {
				return false
			}
			time.Sleep(30 * time.Millisecond)
		}
		time.Sleep(1200 * time.Millisecond)
		if gone(f.child) {
			t.Error("the process was killed")
		}
		return true
	})
}

// Calls that hang are hung after a freeze, too: the time before it and after it counts.
func TestFreezeWithHungCalls(t *testing.T) {
	t.Parallel()
	f := startFrozen(t)
	said := f.calls(t, "hang")
	time.Sleep(100 * time.Millisecond)
	f.freeze(freezeTime, false, 0)
	begin := time.Now()
	select {
	case line := <-said:
		took := time.Since(begin)
		if took < time.Second || !strings.Contains(line, " 6 ") || !strings.Contains(line, "hang in the HSM") {
			t.Errorf("%v after the freeze: replacements, failed calls, reason: %s", took, line)
		}
		eventually(t, 2*time.Second, "the process with the hung calls lives on", func() bool { return gone(f.child) })
		t.Logf("hang timeout 2 s: killed %v after the freeze", took)
	case <-time.After(6 * time.Second):
		t.Error("the hung calls are never found")
	}
}

// A freeze while a ping is under way, shorter than its timeout: the pong has as long again to come, then silence counts.
func TestFreezeUnderAPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := newRunClock()
		pings := newPinger(Config{PingInterval: 500 * time.Millisecond, PingTimeout: time.Second}, func() error { return nil })
		defer pings.stop()
		<-pings.timer.C
		if silent(pings, clock) {
			t.Fatal("a ping that was not sent is late")
		}
		const stood = 995 * time.Millisecond
		time.Sleep(stood)
		thaw := time.Now()
		ticking, still := context.WithCancel(t.Context())
		defer still()
		go clock.tick(ticking)
		clock.now()
		for range 10 {
			<-pings.timer.C
			if silent(pings, clock) {
				break
			}
		}
		if took := time.Since(thaw); took != stood {
			t.Errorf("frozen for %v: killed after %v", stood, took)
		}
	})
}
