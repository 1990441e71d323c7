package test

// Who can reach the admin socket: nobody over TCP, no other user, and a group where it is let.

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/status"
	"xks-proxy/test/asroot"
)

const (
	stranger      = 65534 // nobody
	strangerGroup = 65533
	listening     = "0A" // TCP_LISTEN in /proc/net/tcp
)

// listensOn are the TCP addresses on which a process listens, as the kernel has them.
func listensOn(t testing.TB, pid int) []string {
	t.Helper()
	inodes := map[string]bool{}
	fds, err := os.ReadDir(procPath(pid, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		link, err := os.Readlink(filepath.Join(procPath(pid, "fd"), fd.Name()))
		if inode, isSocket := strings.CutPrefix(link, "socket:["); err == nil && isSocket {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	var found []string
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		text, err := os.ReadFile(procPath(pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) > 9 && fields[3] == listening && inodes[fields[9]] {
				found = append(found, kernelAddress(t, fields[1]))
			}
		}
	}
	slices.Sort(found)
	return found
}

// kernelAddress reads 0100007F:1F90, the IPv4 form of /proc/net/tcp; another is left as it is.
func kernelAddress(t testing.TB, s string) string {
	t.Helper()
	host, port, _ := strings.Cut(s, ":")
	ip, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	if len(ip) != 4 {
		return s
	}
	binary.BigEndian.PutUint32(ip, binary.NativeEndian.Uint32(ip))
	return net.JoinHostPort(net.IP(ip).String(), strconv.FormatUint(n, 10))
}

// The program listens on the ports of its configuration, and its processes for the HSMs on none.
func TestNoOtherPorts(t *testing.T) {
	t.Parallel()
	asroot.Needed(t, "to see on which ports a process listens that is not dumpable")
	p := newProxy(t, nil)
	want := []string{p.Listen, p.Health}
	slices.Sort(want)
	if got := listensOn(t, p.PID); !slices.Equal(got, want) {
		t.Errorf("it listens on %v, configured are %v", got, want)
	}
	for _, w := range p.workers() {
		if got := listensOn(t, w.PID); len(got) > 0 {
			t.Errorf("the process of %s listens on %v", w.HSM, got)
		}
	}
	without := p.world.start(t, func(s *settings) { s.Health["listen"], s.Admin["socket"], s.State = "", "", t.TempDir() })
	if got := listensOn(t, without.PID); !slices.Equal(got, []string{without.Listen}) {
		t.Errorf("without a health port and an admin socket it listens on %v", got)
	}
}

// With a way to the socket, its mode keeps others out and lets its group in. The log names the user
// who gives an order.
func TestOtherUsers(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "xks-proxy-peer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	err = os.Chmod(dir, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	alone, grouped := filepath.Join(dir, "alone.sock"), filepath.Join(dir, "grouped.sock")
	w := newTestWorld(t)
	p := w.start(t, func(s *settings) { s.Admin["socket"] = alone })
	info, err := os.Lstat(alone)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("%v, mode %v", err, info.Mode())
	}
	asroot.Needed(t, "to give orders as another user")
	copied := filepath.Join(dir, "xks-proxy") // where a stranger can run it
	copyProgram(t, copied)
	for _, arguments := range [][]string{{"hsm", "list"}, {"status"}, {"block", "list"}, {"credentials", "list"}, {"block", "key-store", "main"}, {"unblock", "key-store", "main"}, {"hsm", "drain", "hsm-a"}} {
		stdout, stderr, code := asStranger(t, strangerGroup, copied, append(arguments, "--socket", alone)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "no permission for "+alone) {
			t.Errorf("%s: exit code %d: %s%s", strings.Join(arguments, " "), code, stdout, stderr)
		}
	}
	if list := p.says(t, 0, "", "block", "list"); strings.Contains(list, "key store main") {
		t.Errorf("a stranger has blocked: %s", list)
	}
	if service := p.list(t).member(t, "hsm-a").Service; service == status.Drained {
		t.Error("a stranger has drained an HSM")
	}
	p.stop(t)
	p = w.start(t, func(s *settings) { s.Admin["socket"], s.Admin["group"] = grouped, strconv.Itoa(strangerGroup) })
	for _, arguments := range [][]string{{"hsm", "drain", "hsm-a"}, {"hsm", "resume", "hsm-a"}, {"hsm", "restart", "hsm-a"},
		{"block", "key-store", "other", "--reason", "because"}, {"unblock", "key-store", "other"}, {"block", "key", "a"}, {"unblock", "key", "a"}} {
		stdout, stderr, code := asStranger(t, strangerGroup, copied, append(arguments, "--socket", grouped)...)
		if code != 0 {
			t.Errorf("%s: exit code %d: %s%s", strings.Join(arguments, " "), code, stdout, stderr)
		}
		order := arguments[0]
		if order == "hsm" {
			order = arguments[1]
		}
		p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
			return strings.Contains(line, `"msg":"admin"`) && strings.Contains(line, `"order":"`+order+`"`) &&
				strings.Contains(line, fmt.Sprintf(`"uid":%d,"gid":%d,"pid":`, stranger, strangerGroup)) && strings.Contains(line, `"result":"done"`)
		})
	}
	_, stderr, code := asStranger(t, stranger, copied, "status", "--socket", grouped)
	if code != 1 || !strings.Contains(stderr, "no permission for "+grouped) {
		t.Errorf("another group: exit code %d: %s", code, stderr)
	}
}

// asStranger runs a program as a user who is nobody, with this group only.
func asStranger(t testing.TB, group uint32, path string, arguments ...string) (string, string, int) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.Command(path, arguments...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: group}}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func copyProgram(t testing.TB, to string) {
	t.Helper()
	from, err := os.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	file, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(file, from)
	if err != nil {
		t.Fatal(err)
	}
	err = file.Close()
	if err != nil {
		t.Fatal(err)
	}
}
