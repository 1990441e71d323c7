package worker

// What a process inherits, hides, survives and leaves behind.

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"
)

// gone reports whether a process has ended; a zombie, which only its parent can remove, has.
func gone(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// A parent that is killed takes its worker along, also one that hangs in C, and
// one that only the kernel's parent-death signal can end.
func TestParentKilled(t *testing.T) {
	for _, word := range []string{"idle", "hang", "deaf"} {
		t.Run(word, func(t *testing.T) {
			parent := exec.Command("/proc/self/exe", argParent, word)
			parent.Stderr = os.Stderr
			out, err := parent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			err = parent.Start()
			if err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || gone(pid) {
				t.Fatalf("the worker is %q: %v", line, err)
			}
			_ = parent.Process.Kill()
			took := eventually(t, 2*time.Second, "the worker lives on without its parent", func() bool { return gone(pid) })
			_ = parent.Wait()
			t.Logf("the worker was gone after %v", took)
		})
	}
}

// The end of the socket alone is enough, also with all sessions hung in C.
func TestOrphanExits(t *testing.T) {
	p, err := startProcess(testConfig(t, testSettings{}).withDefaults(), zapcore.WarnLevel)
	if err != nil {
		t.Fatal(err)
	}
	defer p.kill()
	l := newLink("hsm-a", p.conn, 100)
	go l.read()
	err = l.hello(hello{Protocol: protocolVersion, MaxInFlight: 100, HangTimeout: time.Minute, Settings: mustJSON(testSettings{Sessions: 2})})
	if err != nil {
		t.Fatal(err)
	}
	if o := <-l.opened; o.err != nil {
		t.Fatal(o.err)
	}
	for range 4 {
		go func() { _, _ = l.do(context.Background(), kindEncrypt, &request{key: command("hang")}) }()
	}
	eventually(t, 5*time.Second, "the sessions do not hang", func() bool {
		_ = l.ping()
		select {
		case pong := <-l.pongs:
			return pong.Busy == 2
		case <-time.After(time.Second):
			return false
		}
	})
	begin := time.Now()
	l.fail(errGone)
	select {
	case <-p.exited:
	case <-time.After(2 * time.Second):
		t.Fatal("the process lives on without its socket")
	}
	if p.how() != "exit status 82" {
		t.Errorf("it ended with %s", p.how())
	}
	t.Logf("it was gone after %v", time.Since(begin))
}

// A worker has its own socket and no other: not the other worker's, no
// listener's, not even one that the parent inherited without close-on-exec.
func TestInheritsNothing(t *testing.T) {
	inherited, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(inherited) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_ = readyWorker(t, testConfig(t, testSettings{}))
	w := readyWorker(t, testConfig(t, testSettings{}))
	files, err := w.Find(within(t, 5*time.Second), "files")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, f := range files {
		counts[f.KeyType]++
	}
	// Besides these the runtime has files of its own: epoll, and the CPU limit of its cgroup.
	if counts["socket"] != 1 || counts["pipe"] != 2 || counts["device"] != 1 {
		t.Errorf("open in the worker: %v %+v", counts, files)
	}
}

// Signals of a terminal or a service manager are the parent's business.
func TestSignalsAreIgnored(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	s := w.State()
	group, err := unix.Getpgid(s.PID)
	if err != nil || group != s.PID {
		t.Errorf("process group %d of process %d: %v", group, s.PID, err)
	}
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		err := unix.Kill(s.PID, signal)
		if err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(100 * time.Millisecond)
	if !works(w) || w.State().Restarts != 0 {
		t.Errorf("state is %+v", w.State())
	}
}

func TestNoCoreDumps(t *testing.T) {
	w := readyWorker(t, testConfig(t, testSettings{}))
	limits, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(w.State().PID), "limits"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max core file size"); found {
			if fields := strings.Fields(rest); fields[0] != "0" || fields[1] != "0" {
				t.Error(line)
			}
			return
		}
	}
	t.Error("no limit for core files")
}

// The settings are nowhere but in memory; variables of the proxy's own are not handed on.
func TestSecretsStaySecret(t *testing.T) {
	const pin = "s3cret-pin-4711"
	t.Setenv("XKS_HSM_PIN", pin)
	t.Setenv("SOME_VARIABLE", "inherited")
	log, seen := observer.New(zapcore.DebugLevel)
	c := testConfig(t, testSettings{PIN: pin})
	c.Env = []string{"SOFTHSM2_CONF=/etc/a.conf"}
	c.Log = zap.New(log)
	w := readyWorker(t, c)
	dir := filepath.Join("/proc", strconv.Itoa(w.State().PID))
	for _, name := range []string{"cmdline", "environ"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrPermission) {
			text, err = nil, nil // not dumpable: unreadable for any other process of the user
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), pin) || strings.Contains(string(text), "XKS_") {
			t.Errorf("%s shows what it must not: %q", name, text)
		}
	}
	_, _ = w.Encrypt(t.Context(), command("panic"), nil, nil)
	eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
	for _, entry := range seen.All() {
		line, err := zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m"}).EncodeEntry(entry.Entry, entry.Context)
		if err != nil || strings.Contains(line.String(), pin) {
			t.Errorf("in the log: %s, %v", line, err)
		}
	}
	if s := w.State().LastErr.Error() + c.String() + c.GoString(); strings.Contains(s, pin) {
		t.Errorf("in an error: %s", s)
	}
	got := environment([]string{"XKS_A=1", "PATH=/bin", "XKSB=2"}, []string{"C=3"})
	if strings.Join(got, " ") != "PATH=/bin XKSB=2 C=3" {
		t.Errorf("environment is %q", got)
	}
}

// What the vendor's library prints is in the log, in lines of bounded length.
func TestOutputIsLogged(t *testing.T) {
	log, seen := observer.New(zapcore.DebugLevel)
	c := testConfig(t, testSettings{})
	c.Log = zap.New(log)
	w := readyWorker(t, c)
	_, err := w.Encrypt(t.Context(), command("print:there"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(level zapcore.Level, text string) int {
		n := 0
		for _, e := range seen.FilterLevelExact(level).All() {
			if line, _ := e.ContextMap()["line"].(string); strings.Contains(line, text) && len(line) <= maxLine {
				n++
			}
		}
		return n
	}
	eventually(t, 5*time.Second, "the output is not in the log", func() bool {
		return lines(zap.DebugLevel, "hello there") == 1 && lines(zap.WarnLevel, "beware there") == 1 && lines(zap.DebugLevel, "xxxx") == 1
	})
}

func TestCopyLines(t *testing.T) {
	var got []string
	copyLines(strings.NewReader(strings.Repeat("line\n", linesAtOnce+50)+"\n\r\nlast"),
		func(string) zapcore.Level { return zapcore.WarnLevel }, func(_ zapcore.Level, s string) { got = append(got, s) })
	if len(got) != linesAtOnce+1 || got[linesAtOnce] != "… and 51 more lines" {
		t.Errorf("%d lines, the last %q", len(got), got[len(got)-1])
	}
}

// Fifty processes later everything is as it was.
func TestNothingIsLeftBehind(t *testing.T) {
	openFiles := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	children := func() int {
		threads, err := filepath.Glob("/proc/self/task/*/children")
		if err != nil || len(threads) == 0 {
			t.Fatalf("cannot list the children of this process: %v", err)
		}
		n := 0
		for _, file := range threads {
			text, err := os.ReadFile(file)
			if err == nil { // a thread may have ended meanwhile
				n += len(strings.Fields(string(text)))
			}
		}
		return n
	}
	c := testConfig(t, testSettings{Sessions: 2})
	warm := readyWorker(t, c) // whatever the runtime opens for good, it has open now
	_ = warm.Close(within(t, 5*time.Second))
	eventually(t, 5*time.Second, "children of earlier tests are left", func() bool { return children() == 0 })
	files, goroutines := openFiles(), runtime.NumGoroutine()

	c.BackoffMin, c.BackoffMax = time.Millisecond, time.Millisecond
	w := readyWorker(t, c)
	for range 50 {
		pid := w.State().PID
		results := pending(t, w, 2)
		_ = unix.Kill(pid, unix.SIGKILL)
		wantAllGone(t, results, 5*time.Second)
		eventually(t, 10*time.Second, "no new process", func() bool { s := w.State(); return s.Phase == Running && s.PID != pid })
	}
	if n := children(); n != 1 {
		t.Errorf("%d children while one process runs", n)
	}
	err := w.Close(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "goroutines, files or children are left", func() bool {
		return runtime.NumGoroutine() <= goroutines && openFiles() <= files && children() == 0
	})
	t.Logf("after %d restarts: %d goroutines (%d before), %d files (%d)", w.State().Restarts, runtime.NumGoroutine(), goroutines, openFiles(), files)
}

func TestConnByHand(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", argWorker).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not for use by hand") {
		t.Errorf("%v: %s", err, out)
	}
}
