package worker

// A process that leaks is replaced in good time, and first to go when memory runs out.

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const testMemoryLimit = 128 << 20

func memoryConfig(t testing.TB, s testSettings) Config {
	t.Helper()
	c := testConfig(t, s)
	c.MemoryLimit = testMemoryLimit
	return c
}

// takeMemory has the process take so many MiB.
func takeMemory(t *testing.T, w *Worker, mib string) {
	t.Helper()
	_, err := w.Encrypt(within(t, 10*time.Second), command("leak:"+mib), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
}

func TestMemoryLimit(t *testing.T) {
	w := readyWorker(t, memoryConfig(t, testSettings{}))
	takeMemory(t, w, "20")
	eventually(t, 5*time.Second, "the memory is not measured", func() bool { return w.State().Memory > 20<<20 })
	if s := w.State(); s.Restarts != 0 || s.Memory > testMemoryLimit {
		t.Fatalf("state is %+v", s)
	}
	replaced(t, w, func() { takeMemory(t, w, "140") })
	s := w.State()
	if s.Overgrown != 1 || !strings.Contains(s.LastErr.Error(), "the limit (memory_limit_mib) is 128") {
		t.Errorf("state is %+v", s)
	}
	if !works(w) {
		t.Error("the new process does not work")
	}
}

// Calls that are under way when the process has to go are finished.
func TestMemoryLimitFinishesCalls(t *testing.T) {
	w := readyWorker(t, memoryConfig(t, testSettings{}))
	var slow sync.WaitGroup
	replaced(t, w, func() {
		for range 3 {
			slow.Go(func() {
				_, err := w.Encrypt(context.Background(), command("sleep:1s"), nil, nil)
				if err != nil {
					t.Error(err)
				}
			})
		}
		eventually(t, 5*time.Second, "the calls do not begin", func() bool { return w.State().InFlight == 3 })
		takeMemory(t, w, "140")
	})
	slow.Wait()
}

// A call that hangs does not keep a process that leaks.
func TestMemoryLimitAndHungCall(t *testing.T) {
	c := memoryConfig(t, testSettings{})
	c.HangTimeout = 500 * time.Millisecond
	w := readyWorker(t, c)
	replaced(t, w, func() {
		go func() { _, _ = w.Encrypt(context.Background(), command("hang"), nil, nil) }()
		takeMemory(t, w, "140")
	})
}

// Of two HSMs that leak alike one serves on, until it has half as much again.
func TestMemoryLimitTakesTurns(t *testing.T) {
	replacement <- struct{}{} // another HSM's process is being replaced
	defer func() { <-replacement }()
	w := readyWorker(t, memoryConfig(t, testSettings{}))
	takeMemory(t, w, "140")
	time.Sleep(3 * memoryLook)
	if s := w.State(); s.Restarts != 0 || !works(w) {
		t.Fatalf("out of turn: %+v", s)
	}
	replaced(t, w, func() { takeMemory(t, w, "60") })
}

// A library that takes its memory while the token is opened.
func TestMemoryLimitWhileOpening(t *testing.T) {
	w := startWorker(t, memoryConfig(t, testSettings{Open: "leak"}))
	err := w.Ready(within(t, 10*time.Second))
	if err == nil || !strings.Contains(err.Error(), "memory_limit_mib") {
		t.Fatal(err)
	}
	if s := w.State(); s.Overgrown == 0 {
		t.Errorf("state is %+v", s)
	}
}

func TestDiesFirst(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	score := func(pid string) int {
		text, err := os.ReadFile("/proc/" + pid + "/oom_score_adj")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if own, theirs := score("self"), score(strconv.Itoa(w.State().PID)); theirs <= own && own < 1000 {
		t.Errorf("oom_score_adj %d, and the parent's is %d", theirs, own)
	}
}

// A search ends when nobody waits for it any more, deadline or not.
func TestAbandonedSearchEnds(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	ended := filepath.Join(t.TempDir(), "ended")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		time.Sleep(100 * time.Millisecond)
		cancel()
	}()
	_, err := w.Find(ctx, "endless:"+ended)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the search goes on", func() bool {
		_, err := os.Stat(ended)
		return err == nil
	})
	eventually(t, 5*time.Second, "it is still in flight", func() bool { return w.State().InFlight == 0 })
	if s := w.State(); s.Restarts != 0 || !works(w) {
		t.Errorf("state is %+v", s)
	}
}

func FuzzParseStatm(f *testing.F) {
	f.Add([]byte("5000 1200 300 10 0 400 0\n"))
	f.Add([]byte("5000 100 300"))
	f.Fuzz(func(t *testing.T, statm []byte) {
		if parseStatm(statm) < 0 {
			t.Errorf("%q", statm)
		}
	})
}
