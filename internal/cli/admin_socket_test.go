package cli

// The admin socket as a file: its mode, what it replaces, what it leaves alone, and
// what its users are told.

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/testkit"
)

func socketMode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestAdminSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "admin.sock")
	l, err := socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if mode := socketMode(t, path); mode != os.ModeSocket|0o600 {
		t.Errorf("mode %v", mode)
	}
	if mode := socketMode(t, filepath.Dir(path)); mode.Perm() != 0o700 {
		t.Errorf("its directory has mode %v", mode)
	}
	_, err = socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
	if err == nil ||
		err.Error() != "admin.socket: another xks-proxy serves "+path+"; stop it, or give this one a socket of its own" {
		t.Errorf("a second one: %v", err)
	}
	err = l.Close()
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Lstat(path)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	err = l.Close()
	if err != nil {
		t.Errorf("closed again: %v", err)
	}
}

func TestAdminSocketOfTheDead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	_, stderr, code := execute(t, "hsm", "list", "--socket", path)
	if code != 1 ||
		stderr != "xks-proxy: the xks-proxy that made "+path+" is gone (connection refused); start it again\n" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	l, err := socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
	if err != nil {
		t.Fatalf("the socket of a process that is gone was not replaced: %v", err)
	}
	defer l.Close()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// Nothing but a socket is ever replaced, also not behind a link, nor removed at the end.
func TestAdminSocketLeavesOthersAlone(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	testkit.WriteFile(t, file, "precious", 0o600)
	err := os.Symlink(file, link)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, link, dir} {
		_, err := socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
		if err == nil || !strings.Contains(err.Error(), "is not a socket; it is left as it is") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if testkit.ReadFile(t, file) != "precious" {
		t.Error("the file was changed")
	}
	path := filepath.Join(dir, "admin.sock")
	l, err := socket.Listen(t.Context(), config.Admin{Socket: path}, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.Remove(path), os.WriteFile(path, []byte("somebody's"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	err = l.Close()
	if err != nil || testkit.ReadFile(t, path) != "somebody's" {
		t.Errorf("what took the socket's place was removed: %v", err)
	}
}

func TestAdminGroup(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	dir := t.TempDir()
	err := os.Chmod(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "admin.sock")
	gid := os.Getgid()
	l, err := socket.Listen(
		t.Context(),
		config.Admin{Socket: path, Group: strconv.Itoa(gid)},
		"",
		zap.New(core),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != os.ModeSocket|0o660 || int(info.Sys().(*syscall.Stat_t).Gid) != gid {
		t.Errorf("mode %v, %+v", info.Mode(), info.Sys())
	}
	if logs.Len() != 1 {
		t.Errorf("the log does not warn of a directory that keeps the group out: %v", logs.All())
	}
	_, err = socket.Listen(
		t.Context(),
		config.Admin{Socket: path + "2", Group: "no-such-group"},
		"",
		zap.NewNop(),
	)
	if err == nil ||
		!strings.HasPrefix(
			err.Error(),
			`admin.group: the Unix group "no-such-group" does not exist on this machine`,
		) {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := os.Lstat(path + "2"); err == nil {
		t.Error("a socket was made for a group that is not there")
	}
}

// What a user is told who cannot reach the proxy.
func TestHSMCommandWithoutAProxy(t *testing.T) {
	testkit.ConfigDir(t)
	t.Setenv(schema.ConfigVariable, "")
	testkit.WriteFile(t, "good.yaml", testkit.ValidConfig(t), 0o644)
	testkit.WriteFile(t, "none.yaml", "admin: {socket: \"\"}\n"+testkit.ValidConfig(t), 0o644)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args   string
		code   int
		stderr string
	}{
		{"hsm list --config good.yaml", 1, "xks-proxy: xks-proxy is not running, or its socket was deleted: cannot find " + dir + "/state/admin.sock. Start it, or name the configuration that it runs with (--config) or its socket (--socket)\n"},
		{"hsm list --config none.yaml", 1, "xks-proxy: none.yaml: admin.socket is empty, so that the proxy cannot be reached; give it a path and restart the proxy\n--socket or XKS_ADMIN_SOCKET finds the proxy without its configuration\n"},
		{"hsm list", 1, "xks-proxy: xks-proxy is not running, or its socket was deleted: cannot find " + command.DefaultSocket + ". Start it, or name the configuration that it runs with (--config) or its socket (--socket)\n"},
		{"hsm drain", 2, "xks-proxy: which HSM? Give its name: xks-proxy hsm drain NAME (xks-proxy hsm list prints the names)\nTry: xks-proxy hsm drain --help\n"},
		{"hsm drain hsm-a --timeout 11m --config good.yaml", 2, "xks-proxy: --timeout 11m0s: it takes up to 10m0s\nTry: xks-proxy hsm drain --help\n"},
		{"hsm resume hsm-a --force", 2, "xks-proxy: unknown flag: --force\nTry: xks-proxy hsm resume --help\n"},
		{"hsm drian hsm-a", 2, "xks-proxy: unknown command \"drian\" for xks-proxy hsm; did you mean \"drain\"?\nTry: xks-proxy hsm --help\n"},
	} {
		stdout, stderr, code := execute(t, strings.Fields(test.args)...)
		if code != test.code || stderr != test.stderr || stdout != "" {
			t.Errorf(
				"%s: exit code %d, want %d\n%s%swant\n%s",
				test.args,
				code,
				test.code,
				stdout,
				stderr,
				test.stderr,
			)
		}
	}
}

// Only root could reach a socket that it must not, so this looks at the words alone.
func TestWhoMay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	testkit.WriteFile(t, path, "", 0o600)
	owner := api.UserName(uint32(os.Getuid())) + ":" + api.GroupName(uint32(os.Getgid()))
	if got := api.WhoMay(path); got != "it belongs to "+owner+", mode 0600" {
		t.Errorf("%s", got)
	}
	err := os.Chmod(dir, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if got := api.WhoMay(filepath.Join(dir, "none", "socket")); got != "its directory "+dir+" belongs to "+owner+", mode 0700" {
		t.Errorf("%s", got)
	}
	err = api.NewClient(path).Explain(&net.OpError{Op: "dial", Err: syscall.EACCES})
	if !strings.Contains(err.Error(), "no permission for "+path+": it belongs to "+owner) {
		t.Errorf("%v", err)
	}
}
