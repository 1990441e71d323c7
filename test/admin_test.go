package test

// The operator's commands against a running proxy: drain, resume and restart under
// load, the admin socket, the test key, the start without HSMs, and more than two HSMs.

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"xks-proxy/pkg/hsm/pkcs11"
	"xks-proxy/pkg/hsm/status"
)

// command runs the program to its end.
func command(t testing.TB, arguments ...string) (string, string, int) {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.Command(program, arguments...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// hsm runs an hsm command for this proxy, which must succeed and say this.
func (p *proxy) hsm(t testing.TB, says string, arguments ...string) {
	t.Helper()
	stdout, stderr, code := command(t, append(append([]string{"hsm"}, arguments...), "--config", p.file)...)
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, says) {
		t.Fatalf("hsm %s: exit code %d: %s%s; want %q; log:\n%s", strings.Join(arguments, " "), code, stdout, stderr, says, p.log.tail(10))
	}
}

// hsmFails runs an hsm command that must not succeed.
func (p *proxy) hsmFails(t testing.TB, says string, arguments ...string) {
	t.Helper()
	stdout, stderr, code := command(t, append(append([]string{"hsm"}, arguments...), "--config", p.file)...)
	if code != 1 || stdout != "" || !strings.Contains(stderr, says) {
		t.Fatalf("hsm %s: exit code %d: %s%s; want %q", strings.Join(arguments, " "), code, stdout, stderr, says)
	}
}

// hsmList is what `hsm list --json` prints.
type hsmList struct {
	Groups    []status.Group
	Processes map[string]struct{ PID, Restarts, Sessions int }
}

func (p *proxy) list(t testing.TB) hsmList {
	t.Helper()
	stdout, stderr, code := command(t, "hsm", "list", "--json", "--config", p.file)
	var l hsmList
	err := json.Unmarshal([]byte(stdout), &l)
	if code != 0 || err != nil {
		t.Fatalf("exit code %d: %v: %s%s", code, err, stdout, stderr)
	}
	return l
}

func (l hsmList) member(t testing.TB, name string) status.Member {
	t.Helper()
	for _, g := range l.Groups {
		for _, m := range g.Members {
			if m.HSM == name {
				return m
			}
		}
	}
	t.Fatalf("%s is not listed", name)
	return status.Member{}
}

// Draining, resuming and restarting one of two HSMs at load fails nothing.
func TestMaintenanceUnderLoad(t *testing.T) {
	t.Parallel()
	p := newProxy(t, (*settings).withSomeLeisure)
	l := p.startLoad(t, http1, 300, 8)
	for _, name := range []string{"hsm-a", "hsm-b"} {
		time.Sleep(500 * time.Millisecond)
		if p.list(t).member(t, name).Requests == 0 {
			t.Errorf("%s has no share of the load", name)
		}
		p.hsm(t, name+" is drained: nothing is in flight on it, and it gets no request until you resume it.\n", "drain", name)
		before := p.list(t).member(t, name)
		if before.Service != status.Drained || before.InFlight != 0 {
			t.Errorf("%s after the drain: %+v", name, before)
		}
		answered := l.count()
		time.Sleep(time.Second)
		if after := p.list(t).member(t, name); after.Requests != before.Requests || after.InFlight != 0 {
			t.Errorf("%s is drained and had %d requests", name, after.Requests-before.Requests)
		}
		if l.count() == answered {
			t.Error("there was no load while it was drained")
		}
		p.hsm(t, name+" is in service, after ", "resume", name)
		eventually(t, 5*time.Second, func() error {
			if p.list(t).member(t, name).Requests == before.Requests {
				return fmt.Errorf("%s is resumed and gets no request", name)
			}
			return nil
		})
	}
	for _, name := range []string{"hsm-a", "hsm-b"} {
		old := p.worker(t, name)
		p.hsm(t, name+" has a new process, ", "restart", name)
		if now := p.worker(t, name); now == old {
			t.Errorf("%s has its old process", name)
		}
		if s := p.list(t).member(t, name); s.Service != status.InService && s.Service != status.Returning {
			t.Errorf("%s is %s after its restart", name, s.Service)
		}
	}
	l.wantNoFailure(t, 500)
	p.waitActive(t, "hsm-a", "hsm-b")
	p.wantHealthy(t)
}

// The last HSM is only taken out by force, and what was asked for is in the log.
func TestDrainTheLastHSM(t *testing.T) {
	t.Parallel()
	p := newProxy(t, nil)
	p.hsm(t, "hsm-a is drained", "drain", "hsm-a")
	p.hsmFails(t, "hsm-b is the only HSM of the group main that can serve: draining it would fail every request to its keys. Nothing was changed; --force does it anyway", "drain", "hsm-b")
	p.hsmFails(t, "hsm-b is the only HSM of the group main that can serve: restarting it", "restart", "hsm-b")
	p.hsmFails(t, `no HSM group has an HSM named "hsm-z"`, "drain", "hsm-z")
	c := p.client(t, http1)
	c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	p.hsm(t, "hsm-b is drained", "drain", "hsm-b", "--force")
	if status := p.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d, with every HSM drained", status)
	}
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 500, "InternalException")
	p.hsm(t, "hsm-b is in service", "resume", "hsm-b")
	p.hsm(t, "hsm-a is in service", "resume", "hsm-a")
	p.wantHealthy(t)
	p.log.wait(t, 5*time.Second, p.Exited(), func(line string) bool {
		return strings.Contains(line, `"msg":"admin"`) && strings.Contains(line, `"order":"drain"`) && strings.Contains(line, `"force":true`) &&
			strings.Contains(line, fmt.Sprintf(`"uid":%d`, os.Getuid())) && strings.Contains(line, `"result":"done"`)
	})
}

// The socket is its owner's only, one proxy's only, and gone with it.
func TestAdminSocket(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	socket := w.file("admin.sock")
	p := w.start(t, func(s *settings) { s.Admin["socket"] = socket })
	info, err := os.Lstat(socket)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	second := w.launch(t, func(s *settings) { s.Admin["socket"], s.State = socket, w.file("second-state") })
	if code := second.waitExit(t, startLimit); code != 1 || !strings.Contains(second.log.tail(5), "another xks-proxy serves "+socket) {
		t.Errorf("a second proxy on the socket: exit code %d:\n%s", code, second.log.tail(5))
	}
	second = w.launch(t, func(s *settings) { s.Admin["socket"] = w.file("second.sock") })
	if code := second.waitExit(t, startLimit); code != 1 || !strings.Contains(second.log.tail(5), "another xks-proxy keeps its state in ") {
		t.Errorf("a second proxy on the state directory: exit code %d:\n%s", code, second.log.tail(5))
	}
	p.list(t)
	p.stop(t)
	_, err = os.Lstat(socket)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	p.hsmFails(t, "xks-proxy is not running, or its socket was deleted: cannot find "+socket, "list")
	third := w.launch(t, func(s *settings) { s.Admin["socket"] = socket })
	third.waitServing(t)
	_ = third.Signal(os.Kill)
	<-third.Exited()
	p.hsmFails(t, "the xks-proxy that made "+socket+" is gone", "list")
	w.start(t, func(s *settings) { s.Admin["socket"] = socket }).list(t) // in place of the one that was killed
}

// On a fresh pair the proxy serves without being able to probe in depth, until its
// command has made the test key.
func TestCreateTestKey(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp(scratch, "fresh-")
	if err != nil {
		t.Fatal(err)
	}
	keys := &pair{Dir: dir, Values: map[keyID][]byte{}, A: newToken(t, dir, "hsm-a"), B: newToken(t, dir, "hsm-b")}
	keys.create(t, newKey("key-1", 1))
	p := newWorld(t, dir, keys).start(t, nil)
	p.waitStatus(t, "hsm-a", "DEGRADED")
	p.waitStatus(t, "hsm-b", "DEGRADED")
	const made = `: made the test key "xks-proxy-test", version 1: AES-256, generated on the HSM, not extractable` + "\n"
	const there = `: has the test key "xks-proxy-test" already` + "\n"
	p.hsm(t, "hsm-b"+made, "create-test-key", "hsm-b")
	p.hsm(t, "hsm-a"+made+"hsm-b"+there, "create-test-key")
	p.hsm(t, "hsm-a"+there+"hsm-b"+there, "create-test-key")
	p.waitActive(t, "hsm-a", "hsm-b")
	p.hsmFails(t, `has no HSM named "hsm-z"; did you mean "hsm-a"?`, "create-test-key", "hsm-z")
	writeFile(t, keys.A.pinFile(), "wrong\n")
	p.hsmFails(t, "CKR_PIN_INCORRECT", "create-test-key", "hsm-a")
	p.hsmFails(t, "the same PIN is not tried again", "create-test-key", "hsm-a")
	writeFile(t, keys.A.pinFile(), keys.A.PIN+"\n")
	p.hsm(t, "hsm-a"+there, "create-test-key", "hsm-a")
	keys.B.away(t)
	p.hsmFails(t, "HSM hsm-b: ", "create-test-key", "hsm-b")
}

// With every HSM away at its first start the proxy serves, says that it is not ready, and is
// as soon as one comes.
func TestStartWithoutHSMs(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	w.A.away(t)
	w.B.away(t)
	p := w.start(t, nil)
	if status := p.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("ready: %d", status)
	}
	c := p.client(t, http1)
	if fleet := c.fleet(t); fleet["hsm-a"] != "UNAVAILABLE" || fleet["hsm-b"] != "UNAVAILABLE" {
		t.Errorf("health is %v", fleet)
	}
	c.post(t, encryptURI("key-1"), encryptBody([]byte("x"), nil)).wantError(t, 500, "InternalException")
	w.B.back(t)
	p.waitActive(t, "hsm-b")
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("ready: %d, with hsm-b back", status)
	}
	s := c.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	c.decrypt(t, "key-1", s, nil)
	w.A.back(t)
	p.waitActive(t, "hsm-a")
	p.wantHealthy(t)
}

// Three HSMs in one group, two in another, in one proxy: each group lives on whatever it has left.
func TestThreeHSMsAndTwoGroups(t *testing.T) {
	t.Parallel()
	w := newTestWorld(t)
	third, fourth, fifth := newToken(t, w.Dir, "hsm-c"), newToken(t, w.Dir, "hsm-d"), newToken(t, w.Dir, "hsm-e")
	var same []pkcs11.NewKey
	for id, value := range w.Values {
		same = append(same, pkcs11.NewKey{Label: id.Label, Version: id.Version, HasVersion: true, Value: value})
	}
	third.create(t, same...)
	other := []pkcs11.NewKey{newKey(testKey, 1), newKey("other-1", 1)}
	fourth.create(t, other...)
	fifth.create(t, other...)
	p := w.start(t, func(s *settings) {
		s.HSMs = append(s.HSMs, third.settings(), fourth.settings(), fifth.settings())
		s.Group["hsms"] = []object{{"hsm": "hsm-a"}, {"hsm": "hsm-b"}, {"hsm": "hsm-c", "priority": 1}}
		s.Second = object{"name": "second", "test_key": testKey, "probe_interval": "1s", "catalogue_interval": "1s", "attempt_timeout": "5s",
			"hsms": []object{{"hsm": "hsm-d"}, {"hsm": "hsm-e"}}}
		for _, k := range s.KeyStores {
			if k["name"] == "other" {
				k["hsm_group"] = "second"
			}
		}
	})
	first, second := p.client(t, http1), p.client(t, http1).at(otherPrefix).as(w.Other)
	p.waitActive(t, "hsm-a", "hsm-b", "hsm-c")
	if fleet := first.fleet(t); len(fleet) != 3 {
		t.Errorf("health of the first group: %v", fleet)
	}
	if fleet := second.fleet(t); len(fleet) != 2 || fleet["hsm-d"] != "ACTIVE" || fleet["hsm-e"] != "ACTIVE" {
		t.Errorf("health of the second group: %v", fleet)
	}
	s := first.encrypt(t, "key-1", encryptBody([]byte("x"), nil))
	w.A.away(t)
	w.B.away(t)
	fifth.away(t)
	for _, name := range []string{"hsm-a", "hsm-b"} {
		p.waitStatus(t, name, "UNAVAILABLE")
	}
	for range 20 {
		first.decrypt(t, "key-1", s, nil)
		first.decrypt(t, "key-1", first.encrypt(t, "key-1", withCDIV(encryptBody([]byte("x"), nil))), nil)
		second.decrypt(t, "other-1", second.encrypt(t, "other-1", encryptBody([]byte("x"), nil)), nil)
	}
	p.hsmFails(t, "hsm-c is the only HSM of the group main that can serve", "drain", "hsm-c")
	if status := p.ready(t); status != http.StatusOK {
		t.Errorf("ready: %d", status)
	}
	w.A.back(t)
	w.B.back(t)
	fifth.back(t)
	p.waitActive(t, "hsm-a", "hsm-b", "hsm-c")
	if l := p.list(t); len(l.Groups) != 2 || len(l.Groups[0].Members) != 3 || len(l.Processes) != 5 {
		t.Errorf("%+v", l)
	}
}
