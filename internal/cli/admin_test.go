package cli

// The admin socket from end to end inside one process: real groups of HSMs in
// memory, a real socket, the real commands.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/config"
	"xks-proxy/internal/config/schema"
	"xks-proxy/internal/fleet"
	"xks-proxy/internal/peer"
	"xks-proxy/pkg/hsm"
	"xks-proxy/pkg/hsm/group"
	"xks-proxy/pkg/hsm/hsmtest"
	"xks-proxy/pkg/hsm/status"
	"xks-proxy/pkg/hsm/worker"
)

// fakeProcess is a process that starts anew when it is told to.
type fakeProcess struct {
	mu       sync.Mutex
	state    worker.State
	reasons  []string
	restarts func(*worker.State) // what becomes of it
}

func newFakeProcess(pid int) *fakeProcess {
	return &fakeProcess{
		state:    worker.State{Phase: worker.Running, PID: pid, Sessions: 8, Since: time.Now()},
		restarts: func(s *worker.State) { s.PID, s.Restarts = s.PID+100, s.Restarts+1 },
	}
}

func (p *fakeProcess) State() worker.State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *fakeProcess) Restart(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reasons = append(p.reasons, reason)
	p.restarts(&p.state)
}

// adminRig is an admin server with two groups: main has hsm-a and hsm-b, other has
// hsm-b and hsm-c.
type adminRig struct {
	admin     *admin.Service
	groups    []*group.Group
	processes map[string]fleet.HSMProcess
	tokens    map[string]*hsmtest.Token
	socket    string
	log       *observer.ObservedLogs
	names     *peer.Names // of who gives orders

	held    heldBlocks
	hanging atomic.Pointer[<-chan struct{}] // until it is closed, lookups of names hang
}

// hang has lookups of names wait from now on, until let is closed.
func (rig *adminRig) hang(let <-chan struct{}) { rig.hanging.Store(&let) }

func (rig *adminRig) lookUp(uid int) (string, error) {
	if let := rig.hanging.Load(); let != nil {
		<-*let
		return "", nil
	}
	return peer.SystemName(uid)
}

func newAdminRig(t *testing.T) *adminRig {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	log := zap.New(core)
	rig := &adminRig{
		processes: map[string]fleet.HSMProcess{}, tokens: map[string]*hsmtest.Token{}, log: logs,
		socket: filepath.Join(t.TempDir(), "admin.sock"),
	}
	rig.names = peer.NewNames(rig.lookUp)
	view := newFakeView(t, log, &rig.held)
	view.Groups = func() []*group.Group { return rig.groups }
	view.Processes = func() map[string]fleet.HSMProcess { return rig.processes }
	rig.admin = admin.New(view)
	for i, name := range []string{"hsm-a", "hsm-b", "hsm-c"} {
		token := hsmtest.New(name)
		token.AddKey("test", 1)
		token.AddKey("key", 1)
		rig.tokens[name] = token
		rig.processes[name] = newFakeProcess(1000 + i)
	}
	rig.addGroup(t, "main", "hsm-a", "hsm-b")
	rig.addGroup(t, "other", "hsm-b", "hsm-c")
	l, err := socket.Listen(t.Context(), config.Admin{Socket: rig.socket}, "", zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	server := socket.NewServer(rig.admin, socket.NewOutsiders(log), rig.names)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the server ended with %v", err)
		}
		if _, err := os.Lstat(rig.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left: %v", err)
		}
	})
	return rig
}

func (rig *adminRig) addGroup(t *testing.T, name string, members ...string) {
	t.Helper()
	c := group.Config{Name: name, TestKey: "test", ProbeInterval: 50 * time.Millisecond}
	for _, m := range members {
		c.Members = append(c.Members, group.MemberConfig{Name: m, Token: rig.tokens[m]})
	}
	g, err := group.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = g.WaitFirstProbes(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rig.groups = append(rig.groups, g)
}

func (rig *adminRig) run(t *testing.T, args ...string) (string, string, int) {
	t.Helper()
	return execute(t, append([]string{"hsm", args[0], "--socket", rig.socket}, args[1:]...)...)
}

// want runs a command and compares its exit code and what its output begins with.
func (rig *adminRig) want(t *testing.T, code int, start string, args ...string) {
	t.Helper()
	stdout, stderr, got := rig.run(t, args...)
	if said := stdout + stderr; got != code || !strings.HasPrefix(said, start) {
		t.Fatalf("hsm %s: exit code %d, want %d:\n%swant it to begin with\n%s", strings.Join(args, " "), got, code, said, start)
	}
}

func (rig *adminRig) service(group int, name string) status.Service {
	return admin.MemberOf(rig.groups[group], name).Service
}

func TestDrainAndResume(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a is drained: nothing is in flight on it, and it gets no request until you resume it.\n", "drain", "hsm-a")
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a") // asked for again
	if s := rig.service(0, "hsm-a"); s != status.Drained {
		t.Errorf("hsm-a is %s", s)
	}
	// hsm-b is the last of main, and in another group as well: nothing changes in either.
	rig.want(t, 1, "xks-proxy: hsm-b is the only HSM of the group main that can serve: draining it would fail every request to its keys. Nothing was changed; --force does it anyway\n", "drain", "hsm-b")
	if rig.service(0, "hsm-b") == status.Drained || rig.service(1, "hsm-b") == status.Drained {
		t.Error("hsm-b is drained although that was refused")
	}
	rig.want(t, 0, "hsm-b is drained: nothing is in flight on it, and it gets no request until you resume it.\nNo other HSM of main serves: requests to its keys fail until one does.\n", "drain", "hsm-b", "--force")
	if rig.service(0, "hsm-b") != status.Drained || rig.service(1, "hsm-b") != status.Drained {
		t.Error("hsm-b is not drained in both groups")
	}
	rig.want(t, 0, "hsm-a is in service, after ", "resume", "hsm-a")
	rig.want(t, 0, "hsm-b is in service, after ", "resume", "hsm-b")
	for group, name := range []string{"hsm-a", "hsm-b"} {
		if !admin.Serves(admin.MemberOf(rig.groups[group], name)) {
			t.Errorf("%s does not serve", name)
		}
	}
}

// A refusal by the second group takes back what was done in the first.
func TestDrainIsForAllGroupsOrNone(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-c is drained", "drain", "hsm-c")
	rig.want(t, 1, "xks-proxy: hsm-b is the only HSM of the group other ", "drain", "hsm-b")
	if s := rig.service(0, "hsm-b"); s == status.Drained {
		t.Error("hsm-b stays drained in the group that had agreed")
	}
}

func TestDrainWaitsForWhatIsInFlight(t *testing.T) {
	rig := newAdminRig(t)
	let, began := make(chan struct{}), make(chan string, 100)
	for _, name := range []string{"hsm-a", "hsm-b"} {
		rig.tokens[name].SetHook(func(ctx context.Context, op hsmtest.Op, key hsm.KeyRef) error {
			if key.Label == "key" {
				began <- name
				select {
				case <-let:
				case <-ctx.Done():
				}
			}
			return nil
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, _, err := rig.groups[0].Encrypt(ctx, hsm.KeyRef{Label: "key", Version: 1}, nil, []byte("x"))
		done <- err
	}()
	busy := <-began
	rig.want(t, 1, "xks-proxy: "+busy+" gets no new request, but 1 were still in flight after the time given; it stays drained: ask again, or resume it\n", "drain", busy, "--timeout", "100ms", "--force")
	if s := rig.service(0, busy); s != status.Drained {
		t.Errorf("%s is %s", busy, s)
	}
	close(let)
	err := <-done
	if err != nil {
		t.Errorf("the request that was in flight: %v", err)
	}
	rig.want(t, 0, busy+" is drained", "drain", busy, "--force")
}

func TestResumeSaysWhatKeepsAnHSMAway(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	rig.tokens["hsm-a"].SetHook(func(context.Context, hsmtest.Op, hsm.KeyRef) error {
		return &hsm.Error{Op: "encrypt", Kind: hsm.ErrUnavailable, Function: "C_Encrypt", Code: 0x30}
	})
	stdout, stderr, code := rig.run(t, "resume", "hsm-a", "--timeout", "500ms")
	if code != 1 || stdout != "" || !strings.Contains(stderr, "hsm-a is no longer drained, but it is") || !strings.Contains(stderr, "CKR_DEVICE_ERROR") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	rig.tokens["hsm-a"].SetHook(nil)
	rig.want(t, 0, "hsm-a is in service", "resume", "hsm-a")
}

func TestRestart(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a has a new process, 1100, and is in service again, after ", "restart", "hsm-a")
	process := rig.processes["hsm-a"].(*fakeProcess)
	if len(process.reasons) != 1 || !strings.HasPrefix(process.reasons[0], "asked for by ") {
		t.Errorf("reasons: %q", process.reasons)
	}
	rig.want(t, 0, "hsm-b is drained", "drain", "hsm-b", "--force")
	rig.want(t, 0, "hsm-b has a new process, 1101; it stays drained.\n", "restart", "hsm-b")
	rig.want(t, 1, "xks-proxy: hsm-a is the only HSM of the group main that can serve: restarting it would fail ", "restart", "hsm-a")
	if s := rig.service(0, "hsm-a"); s == status.Drained {
		t.Error("hsm-a stays drained although its restart was refused")
	}
	rig.want(t, 0, "hsm-a has a new process, 1200, and is in service again", "restart", "hsm-a", "--force")
}

// A process that does not come back does not leave its HSM drained.
func TestRestartOfWhatDoesNotStart(t *testing.T) {
	rig := newAdminRig(t)
	rig.processes["hsm-a"].(*fakeProcess).restarts = func(s *worker.State) {
		s.Phase, s.PID = worker.Failed, 0
		s.LastErr = &hsm.Error{HSM: "hsm-a", Op: "login", Kind: hsm.ErrPINIncorrect, Function: "C_Login", Code: 0xA0}
	}
	rig.want(t, 1, "xks-proxy: hsm-a was restarted, and its process has failed: hsm-a: login: the HSM refused the PIN (C_Login: CKR_PIN_INCORRECT (0xA0)); fix that and restart it again\n",
		"restart", "hsm-a", "--timeout", "200ms")
	if s := rig.service(0, "hsm-a"); s == status.Drained {
		t.Error("hsm-a stays drained")
	}
}

// Each order is one line of the log: who, what, with what result.
func TestOrdersAreLogged(t *testing.T) {
	rig := newAdminRig(t)
	rig.want(t, 0, "hsm-a is drained", "drain", "hsm-a")
	rig.want(t, 1, "xks-proxy: hsm-b is the only", "drain", "hsm-b")
	rig.want(t, 1, "xks-proxy: no HSM group has an HSM named \"hsm-x\"; did you mean \"hsm-a\"?\n", "resume", "hsm-x")
	lines := rig.log.FilterMessage("admin").All()
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	for i, want := range []map[string]any{
		{"order": "drain", "hsm": "hsm-a", "result": "done"},
		{"order": "drain", "hsm": "hsm-b"},
		{"order": "resume", "hsm": "hsm-x"},
	} {
		want["uid"], want["gid"], want["pid"], want["force"] = int64(os.Getuid()), int64(os.Getgid()), int64(os.Getpid()), false
		got := lines[i].ContextMap()
		for key, value := range want {
			if got[key] != value {
				t.Errorf("line %d: %s is %v, want %v", i, key, got[key], value)
			}
		}
		if i > 0 && got["result"] == "done" {
			t.Errorf("line %d: a refused order was done", i)
		}
	}
}

func TestListAsJSON(t *testing.T) {
	rig := newAdminRig(t)
	stdout, _, code := rig.run(t, "list", "--json")
	var status api.List
	err := json.Unmarshal([]byte(stdout), &status)
	if err != nil || code != 0 {
		t.Fatalf("exit code %d: %v", code, err)
	}
	if len(status.Groups) != 2 || status.Groups[0].Name != "main" || len(status.Groups[0].Members) != 2 || status.Processes["hsm-c"].PID != 1002 {
		t.Errorf("%s", stdout)
	}
}

// What else may come over the socket.
func TestAdminAPI(t *testing.T) {
	rig := newAdminRig(t)
	client := api.NewClient(rig.socket).HTTP
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/v1/hsms", 200},
		{"POST", "/v1/hsms", 405},
		{"GET", "/v1/hsms/hsm-a/drain", 405},
		{"GET", "/", 404},
		{"POST", "/v1/hsms/hsm-x/drain", 404},
		{"POST", "/v1/hsms/%2e%2e/drain", 404},
		{"POST", "/v1/hsms/hsm-a/drain?timeout=1", 400},
		{"POST", "/v1/hsms/hsm-a/drain?timeout=11m", 400},
		{"POST", "/v1/hsms/hsm-a/drain?timeout=-1s", 400},
		{"POST", "/v1/hsms/hsm-a/drain?force=maybe", 400},
	} {
		r, err := http.NewRequestWithContext(t.Context(), test.method, "http://admin"+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, err = body.ReadFrom(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || !json.Valid(body.Bytes()) {
			t.Errorf("%s %s: %d, want %d: %v %s", test.method, test.path, response.StatusCode, test.status, err, body.String())
		}
	}
	if s := rig.service(0, "hsm-a"); s == status.Drained {
		t.Error("an order that could not be read was carried out")
	}
}

// A proxy that was started with a relative path names its file by its whole path.
func TestStatusNamesTheWholePath(t *testing.T) {
	rig := newAdminRig(t)
	rig.admin.Running = func() *config.Config { return &config.Config{Source: &schema.Source{File: "xks-proxy.yaml"}} }
	directory, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(directory, "xks-proxy.yaml")
	if got := rig.admin.Status(time.Now()).ConfigFile; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
