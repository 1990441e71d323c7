package cli

// What the commands reload and config diff print, and how the admin socket answers them.

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"xks-proxy/internal/admin"
	"xks-proxy/internal/admin/api"
	"xks-proxy/internal/admin/socket"
	"xks-proxy/internal/cli/command"
	"xks-proxy/internal/config"
	"xks-proxy/internal/loosening"
	"xks-proxy/pkg/hsm"
)

// fakeReloads answers what a test wants.
type fakeReloads struct {
	answer *api.ReloadAnswer
	err    error
	by     string
	accept api.Acceptance
	now    api.ReloadState
}

func (f *fakeReloads) Reload(_ context.Context, by string, accept api.Acceptance) (*api.ReloadAnswer, error) {
	f.by, f.accept = by, accept
	return f.answer, f.err
}

func (f *fakeReloads) Preview(context.Context) (*api.ReloadAnswer, error) { return f.answer, f.err }

func (f *fakeReloads) State() api.ReloadState { return f.now }

// The commands print what the proxy says.
func TestReloadCommands(t *testing.T) {
	rig := newAdminRig(t)
	fake := &fakeReloads{}
	rig.admin.Reloads = fake
	run := func(args ...string) (string, string, int) {
		return execute(t, append(args, "--socket", rig.socket)...)
	}
	fake.answer = &api.ReloadAnswer{File: "/etc/x.yaml", Generation: 7, Took: hsm.Milliseconds(12 * time.Millisecond), WaitsForRestart: []string{"server.listen"}, Warnings: []string{"x.yaml:1:1: careful"},
		Changes: []config.Change{{Key: "key_stores[finance]", Kind: config.Added}, {Key: "hsms[a].sessions", Old: "32", New: "64", Kind: config.Changed},
			{Key: "server.listen", Old: "a:1", New: "a:2", Restart: true, Kind: config.Changed}, {Key: "key_stores[old]", Kind: config.Removed}}}
	list := `  + key_stores[finance]
  ~ hsms[a].sessions: 32 -> 64
  ~ server.listen: a:1 -> a:2 (takes a restart)
  - key_stores[old]
A restart is needed for: server.listen
`
	stdout, stderr, code := run("reload")
	if want := "/etc/x.yaml is in use, as generation 7, after 12ms.\n" + list; stdout != want || stderr != "warning: x.yaml:1:1: careful\n" || code != 0 {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	if !strings.HasSuffix(fake.by, " over the admin socket") {
		t.Errorf("by %q", fake.by)
	}
	stdout, stderr, code = run("config", "diff", "/etc/y.yaml")
	if stdout != list || code != 0 || !strings.HasPrefix(stderr, "note: the running proxy reads /etc/x.yaml, not /etc/y.yaml;") {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
	fake.answer.Loosens = []loosening.Loosening{{Key: "key_stores[payroll].policy.files", What: `the forbid "not-mallory" (payroll.cedar:9) is gone`}}
	fake.answer.Digest, fake.answer.Confirm = "a197f1acc340053b", true
	const loosens = `
Loosens (this may let in what was refused before):
  ! key_stores[payroll].policy.files: the forbid "not-mallory" (payroll.cedar:9) is gone
`
	stdout, _, code = run("reload", "--accept-loosening")
	if !strings.HasSuffix(stdout, list+loosens) || code != 0 || fake.accept != api.AcceptAny {
		t.Errorf("%d\n%s, accepts %q", code, stdout, fake.accept)
	}
	_, _, code = run("reload", "--accept-loosening=a197f1acc340053b")
	if code != 0 || fake.accept != "a197f1acc340053b" {
		t.Errorf("%d, accepts %q", code, fake.accept)
	}
	_, stderr, code = run("reload", "--accept-loosening", "a197f1acc340053b")
	if code != command.ExitUsage || !strings.Contains(stderr, "--accept-loosening=DIGEST") {
		t.Errorf("%d %s", code, stderr)
	}
	_, _, _ = run("reload")
	if fake.accept != api.AcceptNothing {
		t.Errorf("accepts %q", fake.accept)
	}
	fake.answer.Generation = 0 // of a preview
	stdout, _, code = run("config", "diff", "/etc/x.yaml")
	const confirm = `
reload.loosening is confirm: a reload refuses this until you accept it:
  xks-proxy reload --accept-loosening=a197f1acc340053b
`
	if stdout != list+loosens+confirm || code != command.ExitFailed {
		t.Errorf("%d\n%s", code, stdout)
	}
	fake.answer = &api.ReloadAnswer{File: "/etc/x.yaml"}
	stdout, _, code = run("config", "diff", "/etc/x.yaml")
	if stdout != "A reload would change nothing.\n" || code != 0 {
		t.Errorf("%d %s", code, stdout)
	}
	fake.answer, fake.err = nil, errors.New("/etc/x.yaml:3:1: wrong")
	for _, args := range [][]string{{"reload"}, {"config", "diff"}, {"reload", "--json"}} {
		stdout, stderr, code = run(args...)
		if stdout != "" || stderr != "xks-proxy: /etc/x.yaml:3:1: wrong\n" || code != command.ExitFailed {
			t.Errorf("%d %s%s", code, stdout, stderr)
		}
	}
	for want, err := range map[int]error{http.StatusConflict: admin.ErrStarting, http.StatusUnprocessableEntity: errors.New("wrong")} {
		fake.err = err
		w := httptest.NewRecorder()
		socket.Routes{Service: rig.admin}.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, api.ReloadPath, nil))
		if w.Code != want {
			t.Errorf("%v: %d, want %d", err, w.Code, want)
		}
	}
}
