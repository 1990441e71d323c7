package socket

import (
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOrphansAreBuried: what a child leaves behind is adopted, and waited for once it was found
// ended twice; a child of our own is not.
func TestOrphansAreBuried(t *testing.T) {
	leave, err := AdoptOrphans()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave()
		_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	})
	out, err := exec.Command("sh", "-c", "sleep 0.05 >/dev/null 2>&1 & echo $!").Output()
	if err != nil {
		t.Fatal(err)
	}
	orphan, err := strconv.Atoi(string(out[:len(out)-1]))
	if err != nil {
		t.Fatal(err)
	}
	ended := func() bool {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, orphan, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		return err == nil && info.Signo != 0
	}
	deadline := time.Now().Add(10 * time.Second)
	for !ended() {
		if time.Now().After(deadline) {
			t.Fatalf("the orphan %d did not become a child of this process", orphan)
		}
		time.Sleep(5 * time.Millisecond)
	}
	first := buryEnded(nil)
	if _, found := first[orphan]; !found || !ended() {
		t.Fatalf("at first it is only noted: %v", first)
	}
	buryEnded(first)
	if ended() {
		t.Error("nobody waited for the orphan")
	}
}
