package test

// A name service that hangs: the proxy starts, serves, and takes orders, and ends when it is told
// to.

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hangingNames is preloaded: while the file that HANGING_NAMES names is there, every lookup of a
// user or group hangs.
const hangingNames = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

static void hang(void) {
	const char *file = getenv("HANGING_NAMES");
	while (file && access(file, F_OK) == 0) usleep(20000);
}
int getpwuid_r(uid_t uid, struct passwd *p, char *buffer, size_t size, struct passwd **result) {
	int (*next)(uid_t, struct passwd *, char *, size_t, struct passwd **) = dlsym(RTLD_NEXT, "getpwuid_r");
	hang();
	return next(uid, p, buffer, size, result);
}
int getgrnam_r(const char *name, struct group *g, char *buffer, size_t size, struct group **result) {
	int (*next)(const char *, struct group *, char *, size_t, struct group **) = dlsym(RTLD_NEXT, "getgrnam_r");
	hang();
	return next(name, g, buffer, size, result);
}
`

// startWithHangingNames waits until it serves. The func that it returns lets names be found again.
func (w *world) startWithHangingNames(t *testing.T, edit func(*settings)) (*proxy, func()) {
	t.Helper()
	dir := t.TempDir()
	source, library, hanging := filepath.Join(
		dir,
		"names.c",
	), filepath.Join(
		dir,
		"names.so",
	), filepath.Join(
		dir,
		"hanging",
	)
	writeFile(t, source, hangingNames)
	writeFile(t, hanging, "")
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", library, source, "-ldl").
		CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := w.settings()
	edit(s)
	file := filepath.Join(dir, "xks-proxy.yaml")
	s.Admin["socket"] = file + ".sock"
	writeFile(t, file, s.text(t))
	p, err := launchCommand(
		w,
		file,
		"env",
		"LD_PRELOAD="+library,
		"HANGING_NAMES="+hanging,
		program,
		"serve",
		"--config",
		file,
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	return p, func() { os.Remove(hanging) }
}

func TestKillSwitchWhileNamesHang(t *testing.T) {
	t.Parallel()
	group, err := exec.Command("id", "-gn").Output()
	if err != nil {
		t.Fatal(err)
	}
	w := blockWorld(t)
	p, release := w.startWithHangingNames(
		t,
		func(s *settings) { s.Admin["group"] = strings.TrimSpace(string(group)) },
	)
	socket := p.file + ".sock"
	mode := func() fs.FileMode {
		info, err := os.Lstat(socket)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if mode() != 0o600 {
		t.Errorf("the socket has mode %o", mode())
	}
	c := p.client(t, http1)
	for range 2 {
		began := time.Now()
		p.says(t, 0, "The key store main ", "block", "key-store", "main")
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("a block took %s", took)
		}
	}
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).
		wantError(t, 400, "InvalidStateException")
	p.wantAudit(
		t,
		`"order":"block"`,
		`"result":"done"`,
		fmt.Sprintf(`"user":"","uid":%d`, os.Getuid()),
	)
	release()
	eventually(t, 10*time.Second, func() error {
		if mode() != 0o660 {
			return fmt.Errorf("the socket has mode %o", mode())
		}
		return nil
	})
	name, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, 0, "The block of the key store main by ", "unblock", "key-store", "main")
	p.wantAudit(
		t,
		`"order":"unblock"`,
		`"result":"done"`,
		fmt.Sprintf(`"user":"%s"`, strings.TrimSpace(string(name))),
	)
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
}

// An order that the proxy reads when its caller has gone is not carried out. Here the whole proxy
// stands still meanwhile.
func TestOrderWhoseCallerHasGone(t *testing.T) {
	t.Parallel()
	w := blockWorld(t)
	p := w.start(t, nil)
	c := p.client(t, http1)
	p.says(t, 0, "The key store main is blocked", "block", "key-store", "main")
	err := p.Signal(syscall.SIGSTOP)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		conn, err := net.Dial("unix", p.file+".sock")
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Write(
			[]byte("DELETE /v1/blocks?key_store=main HTTP/1.1\r\nHost: admin\r\n\r\n"),
		)
		err = errors.Join(err, conn.Close(), p.Signal(syscall.SIGSTOP))
		if err != nil {
			t.Fatal(err)
		}
	}
	err = p.Signal(syscall.SIGCONT)
	if err != nil {
		t.Fatal(err)
	}
	p.wantAudit(
		t,
		`"order":"unblock"`,
		`"result":"the caller went away before the order took effect: nothing was changed"`,
	)
	p.says(t, 0, "The key store main was blocked already", "block", "key-store", "main")
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).
		wantError(t, 400, "InvalidStateException")
}

// A start that waits for what no signal can interrupt ends anyway when it is told to.
func TestEndOfAStartThatHangs(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "log")
	err := syscall.Mkfifo(fifo, 0o600) // from which nobody reads
	if err != nil {
		t.Fatal(err)
	}
	p := newTestWorld(t).launch(t, func(s *settings) { s.Log = object{"output": fifo} })
	time.Sleep(time.Second) // the signal before this would end it as it ends any program
	err = p.Signal(syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	if code := p.waitExit(t, 15*time.Second); code != 1 ||
		!strings.Contains(
			p.log.tail(1),
			"stopped before it began to serve, and the start hangs",
		) {
		t.Errorf("exit code %d: %s", code, p.log.tail(3))
	}
}
