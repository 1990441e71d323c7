package worker

// What the log says of a process that crashes, and of one that cannot start.

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/pkg/hsm"
)

func TestCrashLines(t *testing.T) {
	inC := []string{"PC=0x7f1 m=5 sigcode=1 addr=0x0", "signal arrived during cgo execution", "", "goroutine 35 gp=0xc000 m=5 [syscall]:",
		"runtime.cgocall(0x8, 0xc0)", "\t/go/src/runtime/cgocall.go:167 +0x4b", "xks-proxy/pkg/hsm/pkcs11._Cfunc_gcm_run(0x7f, 0x7f, 0x0)",
		"xks-proxy/pkg/hsm/pkcs11._Cfunc_other(0x7f)"}
	for _, c := range []struct {
		lines    []string
		want     string
		ordinary int // lines that are no traceback
	}{
		{[]string{"libvendor: beware", "the SIGSEGV: was another's"}, "", 2},
		{append([]string{"libvendor: beware", "SIGSEGV: segmentation violation"}, inC...), "SIGSEGV in C code (gcm_run)", 1},
		{append([]string{"SIGABRT: abort"}, inC[:3]...), "SIGABRT in C code", 0},
		{[]string{"SIGBUS: bus error", "PC=0x7f1 m=5", "goroutine 1 [running]:"}, "SIGBUS", 0},
		{[]string{"panic: it is broken", "", "goroutine 1 [running]:"}, "panic: it is broken", 1},
		{[]string{"fatal error: " + strings.Repeat("x", 2*maxCause), "goroutine 1"}, "fatal error: " + strings.Repeat("x", maxCause-13), 1},
	} {
		var read crash
		ordinary := 0
		for _, line := range c.lines {
			if !read.read(line) {
				ordinary++
			}
		}
		if read.String() != c.want || ordinary != c.ordinary {
			t.Errorf("%q: got %q, %d ordinary lines, want %q, %d", c.lines[0], read.String(), ordinary, c.want, c.ordinary)
		}
	}
}

// A crash is one line above the level debug, which says of what; the traceback is at debug.
func TestCrashIsOneLine(t *testing.T) {
	for word, want := range map[string]string{"segv": "crashed: SIGSEGV", "abort": "crashed: SIGABRT", "panic": "crashed: panic: the vendor's library is broken", "exit": "(exit status 3)"} {
		t.Run(word, func(t *testing.T) {
			log, seen := observer.New(zapcore.DebugLevel)
			c := testConfig(t, testSettings{})
			c.Log = zap.New(log)
			w := readyWorker(t, c)
			_, err := w.Encrypt(t.Context(), command(word), nil, nil)
			wantKind(t, err, hsm.ErrUnavailable)
			eventually(t, 10*time.Second, "no new process works", func() bool { return works(w) })
			if got := w.State().LastErr.Error(); !strings.Contains(got, want) {
				t.Errorf("the reason is %q, want %q in it", got, want)
			}
			told := 0
			for _, entry := range seen.Filter(func(e observer.LoggedEntry) bool { return e.Level > zapcore.InfoLevel }).All() {
				line, _ := entry.ContextMap()["line"].(string)
				if !strings.HasPrefix(line, "panic: ") { // that line could be a library's
					told++
				}
			}
			if told != 1 {
				t.Errorf("%d lines above the level info, want one", told)
			}
			if traceback := seen.FilterMessage("the HSM's process reports").Len(); word != "exit" && traceback < 5 {
				t.Errorf("%d lines of traceback at the level debug", traceback)
			}
		})
	}
}

func TestComplaint(t *testing.T) {
	var c complaint
	start := time.Now()
	for i, step := range []struct {
		text   string
		at     time.Duration
		unsaid int
		due    bool
	}{
		{"away", 0, 0, true},
		{"away", 5 * time.Second, 0, false},
		{"away", 59 * time.Second, 0, false},
		{"away", 60 * time.Second, 2, true},
		{"away", 61 * time.Second, 0, false},
		{"another", 62 * time.Second, 0, true},
		{"away", 63 * time.Second, 0, true},
		{"away", 10 * time.Minute, 0, true},
	} {
		unsaid, due := c.due(step.text, start.Add(step.at))
		if unsaid != step.unsaid || due != step.due {
			t.Errorf("step %d: %d, %v", i, unsaid, due)
		}
	}
}

// A process that cannot start says why once, and so does what it prints.
func TestOutageIsReadable(t *testing.T) {
	log, seen := observer.New(zapcore.DebugLevel)
	c := testConfig(t, testSettings{Open: "exit"})
	c.Log = zap.New(log)
	c.BackoffMin, c.BackoffMax = time.Millisecond, 10*time.Millisecond
	w := startWorker(t, c)
	eventually(t, 20*time.Second, "it is not started again", func() bool { return w.State().Restarts >= 8 })
	var told []string
	for _, entry := range seen.All() {
		if entry.Level > zapcore.InfoLevel {
			told = append(told, entry.Message)
		}
	}
	slices.Sort(told)
	// What the second process prints comes before it is known that it ends like the first.
	if len(told) > 3 || len(told) < 2 || told[0] != "the HSM's process ended and will be started again" || told[1] == told[0] {
		t.Errorf("of 8 failed starts the log tells\n%s", strings.Join(told, "\n"))
	}
	if debug := seen.FilterMessage(told[0]).FilterLevelExact(zapcore.DebugLevel).Len(); debug < 6 {
		t.Errorf("%d of the others are at the level debug", debug)
	}
}
