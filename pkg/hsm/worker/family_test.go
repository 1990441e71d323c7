package worker

// Helpers that a vendor's library starts end with its process, however that ends.

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startHelpers has the worker process start helpers that ignore SIGTERM: one in its group, one in a
// session of its own, and one that nobody is the parent of any more. Their ids are written to a
// file.
const startHelpers = `trap '' TERM HUP
sleep 1000 & echo $! >>"$0"
setsid sh -c 'echo $$ >>"$0"; exec sleep 1000' "$0" &
(setsid sh -c 'echo $$ >>"$0"; exec sleep 1000' "$0" &)
`

// helperPIDs waits for the three.
func helperPIDs(t *testing.T, file string) []int {
	t.Helper()
	var pids []int
	eventually(t, 10*time.Second, "the helpers do not start", func() bool {
		text, _ := os.ReadFile(file)
		pids = nil
		for _, word := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(word)
			pids = append(pids, pid)
		}
		return len(pids) == 3
	})
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	time.Sleep(100 * time.Millisecond) // until they are what they become
	return pids
}

func wantHelpersGone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, 3*time.Second, "helpers live on", func() bool {
		for _, pid := range pids {
			if !gone(pid) {
				return false
			}
		}
		return true
	})
}

func tell(w *Worker, word string) {
	_, _ = w.Encrypt(context.Background(), command(word), nil, nil)
}

func TestHelpersEnd(t *testing.T) {
	for name, end := range map[string]func(*Worker){
		"killed":    func(w *Worker) { w.Restart("the test says so") },
		"by itself": func(w *Worker) { tell(w, "exit") },
		"crashed":   func(w *Worker) { tell(w, "abort") },
		"SIGKILL":   func(w *Worker) { _ = unix.Kill(w.State().PID, unix.SIGKILL) },
		"closed": func(w *Worker) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = w.Close(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pids")
			w := readyWorker(t, testConfig(t, testSettings{}))
			_, err := w.Encrypt(context.Background(), command("helpers:"+file), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			pids := helperPIDs(t, file)
			for _, pid := range pids {
				if gone(pid) {
					t.Fatalf("helper %d of %v is gone already", pid, pids)
				}
			}
			end(w)
			wantHelpersGone(t, pids)
		})
	}
}

// The parent dies by SIGKILL, with the process idle, hung or stopped.
func TestHelpersEndWithTheParent(t *testing.T) {
	for _, word := range []string{"idle", "hang", "stopped"} {
		t.Run(word, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pids")
			parent := exec.Command("/proc/self/exe", argParent, word, file)
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			err = parent.Start()
			if err != nil {
				t.Fatal(err)
			}
			var pid int
			_, err = fmt.Fscanln(bufio.NewReader(out), &pid)
			if err != nil {
				t.Fatal(err)
			}
			pids := helperPIDs(t, file)
			if word == "stopped" {
				_ = unix.Kill(parent.Process.Pid, unix.SIGSTOP) // or it would replace the process
				_ = unix.Kill(pid, unix.SIGSTOP)
			}
			begin := time.Now()
			_ = parent.Process.Kill()
			_ = parent.Wait()
			wantHelpersGone(t, append(pids, pid))
			t.Logf("all were gone after %v", time.Since(begin))
		})
	}
}
