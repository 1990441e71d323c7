package test

// The systemd unit: how exposed it leaves the machine, that it fits the program's defaults, and that
// the program really works as an unprivileged user on a read-only file system.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	unitFile    = "../configs/xks-proxy.service"
	maxExposure = 20 // tenths, as systemd-analyze has it

	nobody          = 65534
	drainTimeout    = 10 * time.Second // server.drain_timeout, by default
	maxConnections  = 10_000           // server.max_connections, by default
	exitNotReadOnly = 97
)

func TestSystemdExposure(t *testing.T) {
	said, err := exec.Command("sh", "systemd.sh").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	report, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", fmt.Sprint("--threshold=", maxExposure), unitFile).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, report)
	}
	overall := regexp.MustCompile(`Overall exposure level.*: (\d+\.\d)`).FindSubmatch(report)
	if overall == nil {
		t.Fatalf("the report does not say how exposed the service is:\n%s", report)
	}
	exposure, err := strconv.ParseFloat(string(overall[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	if exposure >= float64(maxExposure)/10 {
		t.Errorf("exposure %.1f:\n%s", exposure, report)
	}
	t.Logf("exposure %.1f", exposure)
}

// unitSettings are the lines of the unit that are no comments; a later one is added to an earlier one.
func unitSettings(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		name, value, found := strings.Cut(line, "=")
		if found && !strings.HasPrefix(line, "#") {
			settings[name] = append(settings[name], value)
		}
	}
	return settings
}

// What the unit says must fit what the program does.
func TestSystemdUnit(t *testing.T) {
	unit := unitSettings(t)
	for name, want := range map[string]string{
		"User": "xks-proxy", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateDevices": "yes", "LimitCORE": "0", "KillMode": "mixed",
		"Restart": "on-failure", "MemoryDenyWriteExecute": "yes", "CapabilityBoundingSet": "", "StateDirectory": "xks-proxy", "RuntimeDirectory": "xks-proxy",
		"OOMPolicy": "continue", "LogRateLimitIntervalSec": "0", "LogRateLimitBurst": "0", "LogsDirectory": "xks-proxy",
		"RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "ExecStart": "/usr/local/bin/xks-proxy serve --config /etc/xks-proxy/xks-proxy.yaml",
	} {
		if got := unit[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s=%q, want %q", name, got, want)
		}
	}
	number := func(name string) int {
		n, err := strconv.Atoi(strings.Join(unit[name], " "))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return n
	}
	if stop := time.Duration(number("TimeoutStopSec")) * time.Second; stop <= drainTimeout {
		t.Errorf("TimeoutStopSec is %v, and draining takes up to %v", stop, drainTimeout)
	}
	if files := number("LimitNOFILE"); files < 2*maxConnections {
		t.Errorf("LimitNOFILE=%d for %d connections", files, maxConnections)
	}
	if burst, interval := number("StartLimitBurst"), number("StartLimitIntervalSec"); burst > 10 || interval < burst*number("RestartSec") {
		t.Errorf("%d starts in %d s never reach the limit", burst, interval)
	}
	document, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for setting, value := range map[string]string{"`drain_timeout`": "`10s`", "`max_connections`": "`10000`"} {
		if !regexp.MustCompile(`\| ` + setting + ` \|[^|]*\| ` + value).Match(document) {
			t.Errorf("the default of %s is not %s any more: adapt the unit and this test", setting, value)
		}
	}
}

// Nobody, without a capability, on a file system that is read-only but for the state directory (and the
// directories of SoftHSM, which are the HSMs here): the program serves, and starts a killed process of an HSM again.
func TestUnprivilegedReadOnly(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	s := w.settings()
	s.Admin["socket"] = filepath.Join(s.State, "admin.sock")
	file := w.file("read-only.yaml")
	writeFile(t, file, s.text(t))
	err := os.MkdirAll(s.State, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launchCommand(w, file, sandboxed(t, w, []string{s.State, w.A.Tokens, w.B.Tokens}, program, "serve", "--config", file)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	p.waitServing(t)
	c := p.client(t, http1)
	sealed := c.encrypt(t, "key-1", encryptBody([]byte("in the sandbox"), nil))
	if got := c.decrypt(t, "key-1", sealed, nil); string(got) != "in the sandbox" {
		t.Errorf("decrypted to %q", got)
	}
	before := p.workers()
	if len(before) != 2 {
		t.Fatalf("%d processes of HSMs", len(before))
	}
	for _, pid := range []int{p.PID, before[0].PID, before[1].PID} {
		wantUnprivileged(t, pid)
	}
	err = syscall.Kill(before[0].PID, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, startLimit, func() error { // a program that is started anew from a read-only file system
		if now := p.workers(); len(now) != 2 || slices.Equal(now, before) {
			return fmt.Errorf("processes of HSMs: %v, before %v", now, before)
		}
		return nil
	})
	eventually(t, startLimit, func() error {
		for hsm, status := range c.fleet(t) {
			if status != "ACTIVE" {
				return fmt.Errorf("%s is %s", hsm, status)
			}
		}
		return nil
	})
	kept, err := os.ReadDir(s.State)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) < 2 {
		t.Errorf("the state directory holds %v: neither the socket nor what was seen on the HSMs", kept)
	}
}

// sandboxed is a command in a mount namespace of its own in which everything is read-only but
// for some directories, run by nobody without a capability. Where the tests do not run as root
// they are nobody already, and the namespace is a user's.
func sandboxed(t *testing.T, w *world, writable []string, command ...string) []string {
	t.Helper()
	for _, tool := range []string{"unshare", "setpriv", "mount"} {
		_, err := exec.LookPath(tool)
		if err != nil {
			t.Fatalf("%v: install the package util-linux", err)
		}
	}
	var script strings.Builder
	script.WriteString("set -e\n")
	for _, directory := range writable {
		fmt.Fprintf(&script, "mount --bind '%s' '%s'\n", directory, directory)
	}
	fmt.Fprintf(&script, `while read -r _ _ _ _ place _; do
	case " /proc /sys /dev %[1]s " in *" $place "*) continue ;; esac
	case $place in /proc/*|/sys/*|/dev/pts|/dev/mqueue) continue ;; esac
	mount -o remount,bind,ro "$place" 2>/dev/null || true
done < /proc/self/mountinfo
for place in / /tmp /var/tmp '%[2]s'; do
	if touch "$place/written" 2>/dev/null; then echo "$place is not read-only" >&2; exit %[3]d; fi
done
exec setpriv --no-new-privs --pdeathsig KILL --inh-caps=-all --bounding-set=-all `, strings.Join(writable, " "), w.Dir, exitNotReadOnly)
	namespace := []string{"unshare", "--mount", "--propagation", "private"}
	if os.Getuid() == 0 {
		fmt.Fprintf(&script, "--reuid %d --regid %d --clear-groups ", nobody, nobody)
		giveToNobody(t, w.Dir)
	} else {
		namespace = append(namespace, "--user", "--map-root-user")
		script.WriteString("--securebits=+noroot ")
	}
	script.WriteString(`"$@"` + "\n")
	return slices.Concat(namespace, []string{"sh", "-c", script.String(), "sandbox"}, command)
}

// giveToNobody lets nobody have a world, and pass through the directories above it.
func giveToNobody(t *testing.T, directory string) {
	t.Helper()
	err := os.Chmod(scratch, 0o711)
	if err != nil {
		t.Fatal(err)
	}
	for above := filepath.Dir(directory); strings.HasPrefix(above, os.TempDir()+"/"); above = filepath.Dir(above) {
		err := os.Chmod(above, 0o711)
		if err != nil {
			t.Fatal(err)
		}
	}
	err = filepath.WalkDir(directory, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wantUnprivileged reads what the kernel says of a process.
func wantUnprivileged(t *testing.T, pid int) {
	t.Helper()
	status, err := os.ReadFile(procPath(pid, "status"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"NoNewPrivs:": "1", "CapEff:": "0000000000000000", "CapPrm:": "0000000000000000", "CapBnd:": "0000000000000000"}
	if os.Getuid() == 0 {
		want["Uid:"] = fmt.Sprint(nobody)
	}
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		if value, asked := want[fields[0]]; asked {
			delete(want, fields[0])
			if fields[1] != value {
				t.Errorf("process %d: %s", pid, line)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("process %d: its status lacks %v", pid, want)
	}
	// What is not dumpable belongs to root: no process of the same user may look into it.
	environment, err := os.Stat(procPath(pid, "environ"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := environment.Sys().(*syscall.Stat_t).Uid; os.Getuid() == 0 && owner != 0 {
		t.Errorf("process %d is dumpable: its environ belongs to user %d", pid, owner)
	}
}
