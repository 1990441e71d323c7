package test

// Confinement where the kernel cannot, with a user for an HSM, and with paths that a library needs.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestKernelWithoutLandlock: nothing breaks, and start, status and metrics say so; who demands it
// gets no start.
func TestKernelWithoutLandlock(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(required bool) *proxy {
		s := w.settings()
		s.Admin["socket"] = w.file("admin.sock")
		s.HSMs[0]["confine"] = object{"required": required}
		writeFile(t, w.file("main.yaml"), s.text(t))
		p, err := launchCommand(w, w.file("main.yaml"), self, withoutLandlock, program, "serve", "--config", w.file("main.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start(false)
	defer p.stop(t)
	p.waitServing(t)
	p.waitActive(t, "hsm-a", "hsm-b")
	p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"level":"warn"`) && strings.Contains(line, "the HSM's process is not confined") &&
			strings.Contains(line, "no Landlock") && strings.Contains(line, "hsm-a")
	})
	status := p.says(t, 3, "", "status")
	for _, want := range []string{"The process of hsm-a is not confined: this kernel has no Landlock", "hsm-a, hsm-b: not confined, no Landlock"} {
		if !strings.Contains(strings.Join(strings.Fields(status), " "), want) {
			t.Errorf("status does not say %q:\n%s", want, status)
		}
	}
	if got := p.metric(t, `xks_proxy_hsm_confined{hsm="hsm-b"}`); got != "0" {
		t.Errorf("xks_proxy_hsm_confined is %q", got)
	}
	text, err := os.ReadFile(procPath(p.worker(t, "hsm-a"), "status"))
	if err != nil || !strings.Contains(string(text), "NoNewPrivs:\t1") {
		t.Errorf("no_new_privs is not set without Landlock: %v", err)
	}
	p.stop(t)
	p = start(true)
	if code := p.waitExit(t, startLimit); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if said := p.log.tail(1); !strings.Contains(said, "HSM hsm-a: confine.required is set and this kernel has no Landlock") {
		t.Errorf("it said: %s", said)
	}
}

// withoutLandlock as the first argument makes the test program another program on a kernel without
// Landlock.
const withoutLandlock = "without-landlock"

// runWithoutLandlock has the system call fail as it does where there is none, and becomes argv.
func runWithoutLandlock(argv []string) error {
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_LANDLOCK_CREATE_RULESET, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	if err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	if err != nil {
		return err
	}
	return unix.Exec(argv[0], argv, os.Environ())
}

// TestWorkerOfAnotherUser: with user, an HSM's process is that user's, and serves.
func TestWorkerOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		return // only root can be another user
	}
	dir, err := os.MkdirTemp("", "xks-proxy-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := newWorld(t, dir, newPair(t, dir, newKey("key-1", 1)))
	for _, path := range []string{dir, w.file("hsm-a")} {
		err = os.Chmod(path, 0o711)
		if err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(filepath.Dir(w.A.Conf), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, stranger, strangerGroup))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Chown(w.A.pinFile(), 0, 0), os.Chmod(w.A.pinFile(), 0o600)) // the proxy reads it
	if err != nil {
		t.Fatal(err)
	}
	p := w.start(t, func(s *settings) { s.HSMs[0]["user"] = strconv.Itoa(stranger) })
	p.waitActive(t, "hsm-a", "hsm-b")
	for hsm, want := range map[string]string{"hsm-a": "Uid:\t65534\t65534\t65534\t65534", "hsm-b": "Uid:\t0\t0\t0\t0"} {
		text, err := os.ReadFile(procPath(p.worker(t, hsm), "status"))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v, not %s:\n%s", hsm, err, want, text)
		}
	}
	status := p.says(t, 0, "", "status")
	if !strings.Contains(status, "as user 65534") {
		t.Errorf("status does not say whose process that of hsm-a is:\n%s", status)
	}
	old := p.worker(t, "hsm-a")
	p.says(t, 0, "", "hsm", "restart", "hsm-a")
	if now := p.worker(t, "hsm-a"); now == old {
		t.Error("hsm restart gave hsm-a no new process")
	}
	p.client(t, http1).encrypt(t, "key-1", encryptBody([]byte("x"), nil))
}

// TestConfinePaths: what only the vendor's own file names, within the directory of the
// configuration, is out of reach; the error says what to do, and it helps.
func TestConfinePaths(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	tokens := w.file("tokens-of-a")
	err := os.Rename(w.A.Tokens, tokens)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, w.A.Conf, "directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n")
	p := w.start(t, nil)
	p.log.wait(t, 10*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, "hsm-a") && strings.Contains(line, "C_Initialize") &&
			strings.Contains(line, "name them in confine.paths (docs/hsms.md)")
	})
	p.stop(t)
	for _, mode := range []string{"default", "strict"} {
		p := w.start(t, func(s *settings) {
			s.HSMs[0]["confine"] = object{"mode": mode, "paths": []string{"tokens-of-a"}}
		})
		p.waitActive(t, "hsm-a", "hsm-b")
		p.stop(t)
	}
}
